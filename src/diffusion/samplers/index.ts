/** @file The samplers by the class names of scheduler_config.json. Adding one is one file and one line here. */
import { DiffusionPipeError, nearestName } from '../../core/errors.ts';
import type { NoiseProcess, PredictionType } from '../prediction.ts';
import { ddim } from './ddim.ts';
import { ddpm } from './ddpm.ts';
import { dpmSolverMultistep } from './dpmsolver-multistep.ts';
import { eulerDiscrete } from './euler.ts';
import { eulerAncestralDiscrete } from './euler-ancestral.ts';
import { flowMatchEuler } from './flow-match-euler.ts';
import type { SchedulerConfig } from './options.ts';
import { pndm } from './pndm.ts';
import type { RunOptions, Sampler, SamplerClass } from './sampler.ts';
import { uniPcMultistep } from './unipc.ts';

export { parseSchedulerConfig, type SchedulerConfig } from './options.ts';
export { initialState, type RunOptions, type Sampler, type SamplerState, type StepResult } from './sampler.ts';
export { dynamicShift } from './sigmas.ts';

/** Every sampler, by diffusers' class name. */
export const samplerClasses: ReadonlyMap<string, SamplerClass> = new Map(
	[ddpm, ddim, pndm, dpmSolverMultistep, eulerDiscrete, eulerAncestralDiscrete, uniPcMultistep, flowMatchEuler].map((sampler) => [
		sampler.className,
		sampler,
	]),
);

/**
 * A sampler for `run.steps` steps from a parsed scheduler_config.json. `className` uses another sampler than the config's own with the options
 * they share, as diffusers' `from_config` does.
 * @throws {DiffusionPipeError} naming an unknown sampler or option, a value that is not allowed, or options that give no schedule.
 */
export function createSampler(config: SchedulerConfig, run: RunOptions, className?: string): Sampler {
	return classOf(config, className).create(config, run);
}

/** The complete scheduler_config.json of a sampler: `options` and the defaults of the others, with `_class_name`. */
export function samplerConfig(className: string, options: SchedulerConfig = {}): SchedulerConfig {
	return classOf(options, className).resolve(options);
}

/** How a model of this scheduler_config.json is trained: the noise level of each timestep, and what the model predicts. */
export function trainingProcess(config: SchedulerConfig, className?: string): { process: NoiseProcess; predictionType: PredictionType } {
	return classOf(config, className).training(config);
}

function classOf(config: SchedulerConfig, className: unknown = config._class_name): SamplerClass {
	const found = typeof className === 'string' ? samplerClasses.get(className) : undefined;
	if (found !== undefined) return found;
	const near = typeof className === 'string' ? nearestName(className, samplerClasses.keys()) : undefined;
	throw new DiffusionPipeError('config', 'unknown sampler', {
		place: 'scheduler_config.json _class_name',
		expected: `one of ${[...samplerClasses.keys()].join(', ')}`,
		found: JSON.stringify(className) ?? 'none',
		hint: `${near === undefined ? '' : `did you mean ${near}? `}another sampler can be named instead, and takes over the options that it shares`,
	});
}
