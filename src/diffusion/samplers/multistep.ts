/** @file What the multistep solvers share: options, noise levels by sigma, and the model's output as x0 or noise. */
import { DiffusionPipeError } from '../../core/errors.ts';
import {
	flowProcess,
	type NoiseLevel,
	type NoiseProcess,
	noiseMix,
	originalMix,
	type PredictionType,
	variancePreservingProcess,
} from '../prediction.ts';
import type { BetaConfig } from '../schedule.ts';
import { mix, mixOutput } from './combine.ts';
import { choice, flag, number, type OptionValues } from './options.ts';
import { betaOptions, sigmaSpacingOptions, thresholdingOptions } from './sigmas.ts';
import { spacingOptions } from './spacing.ts';

/** Options of DPMSolverMultistepScheduler and UniPCMultistepScheduler alike. */
export const multistepOptions = {
	...betaOptions,
	...spacingOptions('linspace'),
	...thresholdingOptions,
	...sigmaSpacingOptions,
	prediction_type: choice('epsilon', ['epsilon', 'sample', 'v_prediction', 'flow_prediction']),
	use_flow_sigmas: flag(false),
	flow_shift: number(1, 0),
	use_dynamic_shifting: flag(false),
	time_shift_type: choice('exponential', ['exponential']),
	lower_order_final: flag(true),
	final_sigmas_type: choice('zero', ['zero', 'sigma_min']),
} as const;

/** The values of `multistepOptions`. */
export type MultistepOptions = OptionValues<typeof multistepOptions>;

/** The process a multistep scheduler's model is trained with. */
export function multistepProcess(options: BetaConfig & { readonly use_flow_sigmas: boolean }): NoiseProcess {
	return options.use_flow_sigmas ? flowProcess(options.num_train_timesteps) : variancePreservingProcess(options);
}

/** The noise level of a sigma: (1 - sigma, sigma) of flows, (1, sigma) / sqrt(1 + sigma^2) of a variance-preserving process. */
export function levelOfSigma(flow: boolean, sigma: number): NoiseLevel {
	if (flow) return { alpha: 1 - sigma, sigma };
	const alpha = 1 / Math.sqrt(sigma * sigma + 1);
	return { alpha, sigma: sigma * alpha };
}

/** lambda = ln(alpha / sigma), half of the log signal-to-noise ratio, the solvers' time; infinite without noise. */
export function lambdaOf({ alpha, sigma }: NoiseLevel): number {
	return Math.log(alpha) - Math.log(sigma);
}

/** Refuses combinations of options that mean nothing. */
export function checkMultistep(place: string, options: MultistepOptions, predictsNoise: boolean): void {
	const refuse = (what: string, expected: string, found: string) => {
		throw new DiffusionPipeError('config', what, { place, expected, found });
	};
	const flow = options.prediction_type === 'flow_prediction';
	if (flow && !options.use_flow_sigmas) refuse('flow_prediction needs flow sigmas', 'use_flow_sigmas true', 'false');
	if (flow && predictsNoise)
		refuse('flow_prediction needs a solver for x0', 'algorithm_type dpmsolver++ or predict_x0 true', 'a solver for the noise');
	if (options.use_dynamic_shifting && !options.use_flow_sigmas)
		refuse('dynamic shifting needs flow sigmas', 'use_flow_sigmas true', 'false');
	if (options.use_flow_sigmas && (options.use_exponential_sigmas || options.use_beta_sigmas)) {
		refuse('flow sigmas cannot be spaced like this', 'no use_exponential_sigmas or use_beta_sigmas', 'use_flow_sigmas with one of them');
	}
}

/** The model's output as the noise it implies; with `limit`, by way of the limited x0. */
export function impliedNoise(
	type: PredictionType,
	level: NoiseLevel,
	modelOutput: Float32Array,
	sample: Float32Array,
	limit?: (x0: Float32Array) => Float32Array,
): Float32Array {
	if (limit === undefined) return mixOutput(noiseMix(type, level), sample, modelOutput);
	const x0 = limit(mixOutput(originalMix(type, level), sample, modelOutput));
	return mix([1 / level.sigma, sample], [-level.alpha / level.sigma, x0]);
}

/** Timesteps as the whole numbers that the model was trained on: fractions are cut off, but not rounding errors below a whole number. */
export function wholeTimesteps(timesteps: readonly number[]): number[] {
	return timesteps.map((t) => Math.floor(t + 1e-6));
}
