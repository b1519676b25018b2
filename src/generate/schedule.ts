/** @file The sampler of a pipeline: its own scheduler or another by name, shifted for the size of the image, and where in it an image is taken up. */
import { DiffusionPipeError, nearestName } from '../core/errors.ts';
import { createSampler, dynamicShift, type Sampler, type SchedulerConfig, samplerClasses } from '../diffusion/samplers/index.ts';
import { linspace } from '../diffusion/schedule.ts';

/** What kind of prediction the denoisers of a pipeline make. */
export type Prediction = 'noise' | 'flow';

/** What a sampler is made for. */
export interface ScheduleRequest {
	readonly steps: number;
	/** Images in one array. */
	readonly images: number;
	/** Class of another scheduler than the folder's. */
	readonly className?: string | undefined;
	/** Of the models of this class; undefined where they may be of any kind. */
	readonly prediction?: Prediction | undefined;
	/** Tokens of the image, for `use_dynamic_shifting`. */
	readonly imageTokens: number;
	/** True for pipelines that visit the noise shares 1, 1 - 1/n, ... 1/n before shifting (Flux). */
	readonly evenSigmas?: boolean;
}

const flowClass = 'FlowMatchEulerDiscreteScheduler';
/** What to take in place of a scheduler that is not supported; it fits every option of those. */
const standIns: Readonly<Record<Prediction, string>> = { noise: 'DPMSolverMultistepScheduler', flow: flowClass };

/** What the denoiser that a scheduler_config.json is for predicts. */
export function predictionOf(config: SchedulerConfig): Prediction {
	return config._class_name === flowClass ? 'flow' : 'noise';
}

/** The sampler for a scheduler_config.json. Throws a config error that names a scheduler which does when this one is not supported. */
export function pipelineSampler(config: SchedulerConfig, place: string, request: ScheduleRequest): Sampler {
	const { steps, images, prediction, imageTokens } = request;
	const className = request.className ?? config._class_name;
	const standIn = standIns[prediction ?? (className === flowClass ? 'flow' : 'noise')];
	if (typeof className !== 'string' || !samplerClasses.has(className)) {
		const known = [...samplerClasses.keys()];
		const near = request.className === undefined ? undefined : nearestName(request.className, known);
		throw new DiffusionPipeError('config', 'the scheduler is not supported', {
			place: request.className === undefined ? place : 'scheduler',
			expected: known.join(', '),
			found: JSON.stringify(className) ?? 'none',
			hint: near ? `did you mean ${near}?` : `--scheduler ${standIn}`,
		});
	}
	const named = { ...config, _class_name: className };
	const dynamic = config.use_dynamic_shifting === true && 'use_dynamic_shifting' in samplerClasses.get(className)!.options;
	const sampler = createSampler(named, {
		steps,
		batch: images,
		...(dynamic ? { mu: dynamicShift(imageTokens, shiftOptions(config)) } : {}),
		...(request.evenSigmas && className === flowClass ? { sigmas: [...linspace(1, 1 / steps, steps)] } : {}),
	});
	if (prediction !== undefined && (sampler.predictionType === 'flow_prediction') !== (prediction === 'flow')) {
		throw new DiffusionPipeError('config', 'the scheduler is for models of another kind', {
			place: request.className === undefined ? place : `scheduler ${className}`,
			expected: prediction === 'flow' ? 'one for flow_prediction' : 'one for epsilon or v_prediction',
			found: sampler.predictionType,
			hint: `--scheduler ${standIn}`,
		});
	}
	return sampler;
}

const shiftKeys = ['base_image_seq_len', 'max_image_seq_len', 'base_shift', 'max_shift'] as const;

function shiftOptions(config: SchedulerConfig): { [K in (typeof shiftKeys)[number]]?: number } {
	return Object.fromEntries(shiftKeys.flatMap((key) => (typeof config[key] === 'number' ? [[key, config[key]]] : [])));
}

/**
 * Where in a sampler's timesteps an image is taken up: the last `strength` of the steps are left. As published, pipelines of flow models round up
 * what is left.
 */
export function startStep(sampler: Pick<Sampler, 'timesteps' | 'stepStarts'>, strength: number, prediction: Prediction): number {
	const starts = sampler.stepStarts ?? sampler.timesteps.map((_, i) => i);
	const steps = starts.length;
	return (
		starts[prediction === 'flow' ? Math.floor(steps - steps * strength) : steps - Math.floor(steps * strength)] ?? sampler.timesteps.length
	);
}
