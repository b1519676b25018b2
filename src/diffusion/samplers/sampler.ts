/** @file What a sampler is, and the checks all samplers share. */
import { DiffusionPipeError } from '../../core/errors.ts';
import type { NoiseLevel, NoiseProcess, PredictionType } from '../prediction.ts';
import { mix } from './combine.ts';
import { type OptionTable, type OptionValues, readOptions, type SchedulerConfig, writeOptions } from './options.ts';

/** What one run of a sampler needs beyond the scheduler's config. */
export interface RunOptions {
	/** Number of denoising steps. */
	readonly steps: number;
	/** DDIM: share of fresh noise per step, 0 (the default, deterministic) to 1 (as much as DDPM). */
	readonly eta?: number;
	/** DDIM: derive the noise again from the clipped x0. */
	readonly useClippedModelOutput?: boolean;
	/** Shift exponent with `use_dynamic_shifting`; see `dynamicShift`. */
	readonly mu?: number;
	/** Flow samplers: the noise shares to visit before shifting, descending, one per step. */
	readonly sigmas?: readonly number[];
	/** Images in one array. Needed with `thresholding`, whose limits are found per image. */
	readonly batch?: number;
}

/** What a multistep sampler remembers, to be saved with the sample. One-step samplers leave it as it starts. */
export interface SamplerState {
	/** Converted model outputs of earlier steps, the latest last. */
	readonly history: readonly Float32Array[];
	/** UniPC: the order of the last step, and the corrected sample it started from. */
	readonly order: number;
	readonly lastSample: Float32Array | null;
}

/** The outcome of a step. */
export interface StepResult {
	/** The less noisy sample. */
	readonly sample: Float32Array;
	readonly state: SamplerState;
}

/** The state before the first step. */
export const initialState: SamplerState = { history: [], order: 0, lastSample: null };

/**
 * A sampler set up for a number of steps. Samples, model outputs and noise are flat float32 arrays of any layout, batch outermost; every
 * method returns new arrays and changes none. Apart from thresholding all of it is elementwise, so parts of an image can be stepped apart,
 * each with its own state.
 */
export interface Sampler {
	/** diffusers' class name. */
	readonly className: string;
	/** All of the scheduler's options, ready to be written as scheduler_config.json. */
	readonly config: SchedulerConfig;
	readonly predictionType: PredictionType;
	/** The timestep that the model gets at each step, descending; where a step has several evaluations, each counts, and may repeat one. */
	readonly timesteps: readonly number[];
	/** For samplers that evaluate the model more than once in some steps: where in `timesteps` each of the steps asked for begins. */
	readonly stepStarts?: readonly number[];
	/** Samplers that walk over noise levels: the level of each step, and the level after the last. */
	readonly sigmas?: readonly number[];
	/** Standard deviation of the noise to start from. */
	readonly initNoiseSigma: number;
	/** True when step `i` needs `noise`. */
	needsNoise(i: number): boolean;
	/** The model's input at step `i`; the sample itself when it needs no scaling. */
	scaleModelInput(sample: Float32Array, i: number): Float32Array;
	/** x0 as the model's output at step `i` implies it, clipped or thresholded as the config says: for previews. */
	predictOriginal(modelOutput: Float32Array, i: number, sample: Float32Array): Float32Array;
	/** Step `i` from `sample`, given the model's output for `scaleModelInput(sample, i)` and, where `needsNoise(i)`, standard normal noise. */
	step(modelOutput: Float32Array, i: number, sample: Float32Array, state: SamplerState, noise?: Float32Array): StepResult;
	/**
	 * `x0` noised to timestep `t`, or to one timestep per image: any training timestep for DDPM and DDIM, one of `timesteps` for the others.
	 * The result is on the sampler's own scale, ready for `step`.
	 */
	addNoise(x0: Float32Array, noise: Float32Array, t: number | readonly number[]): Float32Array;
}

/** The parts of a sampler that differ; arguments arrive checked. */
export interface SamplerParts {
	readonly timesteps: readonly number[];
	readonly stepStarts?: readonly number[];
	readonly sigmas?: readonly number[];
	readonly initNoiseSigma: number;
	needsNoise(i: number): boolean;
	/** What the sample is multiplied with before the model; 1 when absent. */
	inputScale?(i: number): number;
	/** How a sample at timestep `t` is made of x0 and noise, on the sampler's own scale; undefined when `t` is none of its timesteps. */
	levelAt(t: number): NoiseLevel | undefined;
	predictOriginal(modelOutput: Float32Array, i: number, sample: Float32Array): Float32Array;
	step(modelOutput: Float32Array, i: number, sample: Float32Array, state: SamplerState, noise: Float32Array): StepResult;
}

/** A scheduler class: its options, and how to make a sampler and a training process of them. */
export interface SamplerClass {
	readonly className: string;
	readonly options: OptionTable;
	/** The scheduler_config.json with every option: the given values and the defaults. */
	resolve(config: SchedulerConfig): SchedulerConfig;
	create(config: SchedulerConfig, run: RunOptions): Sampler;
	/** How the scheduler noises samples for training, and what the model predicts. */
	training(config: SchedulerConfig): { readonly process: NoiseProcess; readonly predictionType: PredictionType };
}

/** Makes a scheduler class of its options, the run options it takes besides `steps` and `batch`, and its formulas. */
export function samplerClass<S extends OptionTable>(definition: {
	readonly className: string;
	readonly options: S;
	readonly runOptions: readonly (keyof RunOptions)[];
	predictionType(options: OptionValues<S>): PredictionType;
	process(options: OptionValues<S>): NoiseProcess;
	parts(options: OptionValues<S>, run: RunOptions): SamplerParts;
}): SamplerClass {
	const { className } = definition;
	const read = (config: SchedulerConfig) => readOptions(className, definition.options, config);
	return {
		className,
		options: definition.options,
		resolve: (config) => writeOptions(className, read(config)),
		training(config) {
			const options = read(config);
			return { process: definition.process(options), predictionType: definition.predictionType(options) };
		},
		create(config, run) {
			const options = read(config);
			checkRun(className, run, definition.runOptions);
			const parts = definition.parts(options, run);
			checkFinite(className, parts);
			return checkedSampler(className, writeOptions(className, options), definition.predictionType(options), parts);
		},
	};
}

function checkedSampler(className: string, config: SchedulerConfig, predictionType: PredictionType, parts: SamplerParts): Sampler {
	const steps = parts.timesteps.length;
	const fail = (what: string, expected: string, found: string): never => {
		throw new DiffusionPipeError('input', what, { place: className, expected, found });
	};
	const checkIndex = (i: number) => {
		if (!Number.isInteger(i) || i < 0 || i >= steps) fail('bad step index', `a whole number from 0 to ${steps - 1}`, String(i));
	};
	const checkLength = (name: string, array: Float32Array | undefined, sample: Float32Array) => {
		if (array?.length !== sample.length) fail(`bad ${name}`, `${sample.length} elements, as the sample has`, `${array?.length ?? 'none'}`);
	};
	return {
		className,
		config,
		predictionType,
		timesteps: parts.timesteps,
		...(parts.stepStarts === undefined ? {} : { stepStarts: parts.stepStarts }),
		...(parts.sigmas === undefined ? {} : { sigmas: parts.sigmas }),
		initNoiseSigma: parts.initNoiseSigma,
		needsNoise(i) {
			checkIndex(i);
			return parts.needsNoise(i);
		},
		scaleModelInput(sample, i) {
			checkIndex(i);
			const scale = parts.inputScale?.(i) ?? 1;
			return scale === 1 ? sample : mix([scale, sample]);
		},
		predictOriginal(modelOutput, i, sample) {
			checkIndex(i);
			checkLength('model output', modelOutput, sample);
			return parts.predictOriginal(modelOutput, i, sample);
		},
		step(modelOutput, i, sample, state, noise) {
			checkIndex(i);
			checkLength('model output', modelOutput, sample);
			for (const past of state.lastSample === null ? state.history : [...state.history, state.lastSample])
				checkLength('state', past, sample);
			if (state.history.length > i)
				fail('state of a later step', `at most ${i} earlier outputs before step ${i}`, `${state.history.length}`);
			if (!parts.needsNoise(i)) return parts.step(modelOutput, i, sample, state, new Float32Array(0));
			checkLength('noise', noise, sample);
			return parts.step(modelOutput, i, sample, state, noise!);
		},
		addNoise(x0, noise, t) {
			checkLength('noise', noise, x0);
			const perImage = typeof t === 'number' ? [t] : t;
			const size = x0.length / perImage.length;
			if (!Number.isInteger(size)) fail('bad timesteps', `one, or one per image of an array of ${x0.length}`, `${perImage.length}`);
			const out = new Float32Array(x0.length);
			for (const [image, timestep] of perImage.entries()) {
				const level = parts.levelAt(timestep) ?? fail('bad timestep', `one of ${parts.timesteps.join(', ')}`, String(timestep));
				for (let i = image * size; i < (image + 1) * size; i++) out[i] = level.alpha * x0[i]! + level.sigma * noise[i]!;
			}
			return out;
		},
	};
}

function checkRun(className: string, run: RunOptions, takes: readonly (keyof RunOptions)[]): void {
	if (!Number.isInteger(run.steps) || run.steps < 1) {
		throw new DiffusionPipeError('config', 'bad number of steps', {
			place: `${className} steps`,
			expected: 'a whole number from 1',
			found: String(run.steps),
		});
	}
	for (const [name, value] of Object.entries(run)) {
		if (value === undefined || name === 'steps' || name === 'batch' || takes.includes(name as keyof RunOptions)) continue;
		throw new DiffusionPipeError('config', 'option does not apply', {
			place: `${className} ${name}`,
			expected: takes.length === 0 ? 'steps alone' : `steps, ${takes.join(', ')}`,
			found: String(value),
		});
	}
}

function checkFinite(className: string, { timesteps, sigmas = [] }: SamplerParts): void {
	if (![...timesteps, ...sigmas].every(Number.isFinite)) {
		throw new DiffusionPipeError('config', 'the options give no usable schedule', {
			place: className,
			expected: 'finite timesteps and sigmas',
			found: `timesteps ${timesteps.join(', ')}; sigmas ${sigmas.join(', ')}`,
			hint: 'use another number of steps, or leave out the options that change sigmas',
		});
	}
}
