/** @file What a step feeds the devices: noise, noise levels, targets' coefficients, labels, each a function of (seed, step, sample). */
import { DiffusionPipeError } from '../core/errors.ts';
import { randomStream } from '../core/random.ts';
import { sizeOf, type Tensor } from '../core/tensor.ts';
import type { NoiseProcess, PredictionType } from '../diffusion/prediction.ts';
import { originalMix, targetMix } from '../diffusion/prediction.ts';
import { drawSigmas, type SigmaDensity, uniformTimesteps } from '../diffusion/timesteps.ts';
import { type LossWeighting, lossWeight } from '../diffusion/weights.ts';
import type { Denoiser } from '../models/index.ts';
import type { TrainConfig } from './config.ts';

/** A scheduler's view of training. */
export interface Process {
	readonly process: NoiseProcess;
	readonly predictionType: PredictionType;
	/** Shift of flow noise levels; 1 for none. */
	readonly shift: number;
}

/** What a step trains on: clean samples in the model's space, labels, and the conditioning inputs' rows by name. */
export interface StepData {
	readonly step: number;
	/** [batch, ...sample shape]; absent where something on the devices gives the samples (`given`). */
	readonly samples?: Float32Array;
	readonly labels: Int32Array;
	readonly conditioning: Readonly<Record<string, Float32Array>>;
}

/** Makes the feeds of a step from its data. They live in memory that the third step after takes over. */
export type FeedMaker = (data: StepData) => Record<string, Tensor>;

/**
 * Shared memory that devices read in place, taken in turns: while one set of buffers is being trained on, the next is being filled.
 * (Fresh buffers every step would grow the process, since each device thread's collector frees them late.)
 */
export function sharedBuffers(turns: number): (key: string, step: number, bytes: number) => SharedArrayBuffer {
	const buffers = new Map<string, SharedArrayBuffer>();
	return (key, step, bytes) => {
		const name = `${key}#${step % turns}`;
		let buffer = buffers.get(name);
		if (!buffer || buffer.byteLength < bytes) {
			buffer = new SharedArrayBuffer(Math.max(8, bytes));
			buffers.set(name, buffer);
		}
		return buffer;
	};
}

/** What the numbers of a batch are made of, one of each per sample. */
export interface BatchData {
	readonly count: number;
	/** [count, ...sample shape]; absent where something on the devices gives the samples. */
	readonly samples: Float32Array | undefined;
	/** Fills the batch's noise. */
	readonly noise: (out: Float32Array) => void;
	/** On the schedule's scale, which need not be whole. */
	readonly timesteps: ArrayLike<number>;
	/** Class of sample i; below 0: none. */
	readonly label: (i: number) => number;
	readonly conditioning: Readonly<Record<string, Float32Array>>;
}

/** Lays a batch out as feeds, in memory that `memory` gives by name. */
export type FeedAssembler = (data: BatchData, memory: (key: string, bytes: number) => SharedArrayBuffer) => Record<string, Tensor>;

/** Feeds for the chains of `diffusion/objective.ts`. Inputs that are `given` on the devices are left out. */
export function feedAssembler(
	{ objective }: Pick<TrainConfig, 'objective'>,
	denoiser: Denoiser,
	{ process, predictionType }: Process,
	given: ReadonlySet<string> = new Set(),
): FeedAssembler {
	const sampleShape = denoiser.chain.inputs[denoiser.sample]!.shape;
	const weighting: LossWeighting =
		objective.loss_weighting === 'min_snr' ? { kind: 'min_snr', gamma: objective.snr_gamma } : { kind: objective.loss_weighting };
	return ({ count, samples, noise: fillNoise, timesteps, label, conditioning }, memory) => {
		const floats = (key: string, shape: readonly number[]): Tensor<'float32'> => ({
			dtype: 'float32',
			shape,
			data: new Float32Array(memory(key, sizeOf(shape) * 4), 0, sizeOf(shape)),
		});
		const x0 = samples && floats('x0', [count, ...sampleShape]);
		x0?.data.set(samples!);
		const noise = floats('noise', [count, ...sampleShape]);
		fillNoise(noise.data);
		const vector = (key: string) => floats(key, [count]);
		const [timestep, signal, spread] = [vector('timestep'), vector('signal'), vector('spread')];
		const [targetX0, targetNoise, weight] = [vector('target_x0'), vector('target_noise'), vector('loss_weight')];
		for (let i = 0; i < count; i++) {
			const t = timesteps[i]!;
			const level = process.level(t);
			const target = targetMix(predictionType, level);
			timestep.data[i] = t * denoiser.timestepScale;
			signal.data[i] = level.alpha;
			spread.data[i] = level.sigma;
			targetX0.data[i] = target.x0;
			targetNoise.data[i] = target.noise;
			weight.data[i] = lossWeight(weighting, predictionType, level);
		}
		const feeds: Record<string, Tensor> = {
			...(x0 ? { x0 } : {}),
			noise,
			signal,
			spread,
			target_x0: targetX0,
			target_noise: targetNoise,
			loss_weight: weight,
			timestep,
		};
		if (denoiser.selfConditioning) {
			const [sample, output] = [vector('estimate_sample'), vector('estimate_output')];
			for (let i = 0; i < count; i++) {
				const mix = originalMix(predictionType, process.level(timesteps[i]!));
				sample.data[i] = mix.sample;
				output.data[i] = mix.output;
			}
			const { input } = denoiser.selfConditioning;
			// Nothing writes to it: new memory is zero.
			Object.assign(feeds, { estimate_sample: sample, estimate_output: output, [input]: floats(input, [count, ...sampleShape]) });
		}
		for (const [name, { shape }] of Object.entries(denoiser.conditioning)) {
			if (given.has(name)) continue;
			const rows = conditioning[name];
			if (rows?.length !== count * sizeOf(shape)) {
				throw new DiffusionPipeError('config', `nothing gives the model's input ${name}`, {
					place: 'model',
					expected: `[${shape.join(', ')}] per image`,
					hint: name === 'encoder_hidden_states' ? 'set text_encoder.path and text_encoder.tokenizer' : 'train a model without this input',
				});
			}
			const fed = floats(name, [count, ...shape]);
			fed.data.set(rows);
			feeds[name] = fed;
		}
		for (const [name, fixed] of Object.entries(denoiser.fixed)) {
			const fed = floats(name, [count, ...fixed.shape]);
			for (let i = 0; i < count; i++) fed.data.set(fixed.data as Float32Array, i * fixed.data.length);
			feeds[name] = fed;
		}
		if (denoiser.labels) {
			const { input, none } = denoiser.labels;
			const data = new BigInt64Array(memory('labels', count * 8), 0, count);
			for (let i = 0; i < count; i++) data[i] = BigInt(label(i) < 0 ? none : label(i));
			feeds[input] = { dtype: 'int64', shape: [count], data };
		}
		return feeds;
	};
}

/** The density of noise levels that flows are trained on. */
export function sigmaDensity({ objective }: Pick<TrainConfig, 'objective'>): SigmaDensity {
	if (objective.weighting_scheme === 'logit_normal')
		return { kind: 'logit_normal', logitMean: objective.logit_mean, logitStd: objective.logit_std };
	return objective.weighting_scheme === 'mode' ? { kind: 'mode', modeScale: objective.mode_scale } : { kind: 'uniform' };
}

/**
 * Feeds for the chain that `trainingChain` makes. Sample i of step s gets the same noise, timestep and label whatever the devices.
 * Inputs that are `given` by frozen parts on the devices are left out. Throws a config error when the data does not fit the model.
 */
export function feedMaker(config: TrainConfig, denoiser: Denoiser, process: Process, given?: ReadonlySet<string>): FeedMaker {
	const { seed, objective } = config;
	const memory = sharedBuffers(3);
	const assemble = feedAssembler(config, denoiser, process, given);
	const streams = {
		noise: randomStream(seed, 'train.noise'),
		offset: randomStream(seed, 'train.noise_offset'),
		timestep: randomStream(seed, 'train.timestep'),
		label: randomStream(seed, 'train.label_dropout'),
	};
	const sampleShape = denoiser.chain.inputs[denoiser.sample]!.shape;
	const elements = sizeOf(sampleShape);
	const plane = sizeOf(sampleShape.slice(1));
	const density = sigmaDensity(config);
	const { numTrainTimesteps } = process.process;
	const timesteps = (step: number, count: number): ArrayLike<number> => {
		if (process.predictionType !== 'flow_prediction') return uniformTimesteps(streams.timestep, step, count, { high: numTrainTimesteps });
		return drawSigmas(streams.timestep, step, count, { density, shift: process.shift }).map((sigma) => sigma * numTrainTimesteps);
	};
	return ({ step, samples, labels, conditioning }) => {
		const count = samples ? samples.length / elements : labels.length;
		if (samples && !Number.isInteger(count)) {
			throw new DiffusionPipeError('config', 'images do not fit the model', {
				place: 'data',
				expected: `[${sampleShape.join(', ')}] per image`,
				found: `${samples.length} values in a batch`,
			});
		}
		const noise = (out: Float32Array) => {
			streams.noise.normals(out, step);
			if (objective.noise_offset === 0) return;
			for (let p = 0; p < out.length / plane; p++) {
				const shiftBy = objective.noise_offset * streams.offset.normal(step, p);
				for (let i = p * plane; i < (p + 1) * plane; i++) out[i]! += shiftBy;
			}
		};
		const label = (i: number) => (streams.label.uniform(step, i) < objective.label_dropout ? -1 : labels[i]!);
		const data = { count, samples, noise, timesteps: timesteps(step, count), label, conditioning };
		return assemble(data, (key, bytes) => memory(key, step, bytes));
	};
}
