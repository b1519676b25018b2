/** @file What a step feeds the devices: noise, noise levels, targets' coefficients, labels, each a function of (seed, step, sample). */
import { DiffusionPipeError } from '../core/errors.ts';
import { randomStream } from '../core/random.ts';
import { sizeOf, type Tensor } from '../core/tensor.ts';
import type { NoiseProcess, PredictionType } from '../diffusion/prediction.ts';
import { targetMix } from '../diffusion/prediction.ts';
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

/**
 * Feeds for the chain that `trainingChain` makes. Sample i of step s gets the same noise, timestep and label whatever the devices.
 * Inputs that are `given` by frozen parts on the devices are left out. Throws a config error when the data does not fit the model.
 */
export function feedMaker(
	config: TrainConfig,
	denoiser: Denoiser,
	{ process, predictionType, shift }: Process,
	given: ReadonlySet<string> = new Set(),
): FeedMaker {
	const { seed, objective } = config;
	const memory = sharedBuffers(3);
	const streams = {
		noise: randomStream(seed, 'train.noise'),
		offset: randomStream(seed, 'train.noise_offset'),
		timestep: randomStream(seed, 'train.timestep'),
		label: randomStream(seed, 'train.label_dropout'),
	};
	const sampleShape = denoiser.chain.inputs[denoiser.sample]!.shape;
	const elements = sizeOf(sampleShape);
	const plane = sizeOf(sampleShape.slice(1));
	const weighting: LossWeighting =
		objective.loss_weighting === 'min_snr' ? { kind: 'min_snr', gamma: objective.snr_gamma } : { kind: objective.loss_weighting };
	const density: SigmaDensity =
		objective.weighting_scheme === 'logit_normal'
			? { kind: 'logit_normal', logitMean: objective.logit_mean, logitStd: objective.logit_std }
			: objective.weighting_scheme === 'mode'
				? { kind: 'mode', modeScale: objective.mode_scale }
				: { kind: 'uniform' };
	const timesteps = (step: number, count: number): ArrayLike<number> => {
		if (predictionType !== 'flow_prediction') return uniformTimesteps(streams.timestep, step, count, { high: process.numTrainTimesteps });
		return drawSigmas(streams.timestep, step, count, { density, shift }).map((sigma) => sigma * process.numTrainTimesteps);
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
		const floats = (key: string, shape: readonly number[]): Tensor<'float32'> => ({
			dtype: 'float32',
			shape,
			data: new Float32Array(memory(key, step, sizeOf(shape) * 4), 0, sizeOf(shape)),
		});
		const x0 = samples && floats('x0', [count, ...sampleShape]);
		x0?.data.set(samples!);
		const noise = floats('noise', [count, ...sampleShape]);
		streams.noise.normals(noise.data, step);
		if (objective.noise_offset > 0) {
			for (let p = 0; p < noise.data.length / plane; p++) {
				const shiftBy = objective.noise_offset * streams.offset.normal(step, p);
				for (let i = p * plane; i < (p + 1) * plane; i++) noise.data[i]! += shiftBy;
			}
		}
		const drawn = timesteps(step, count);
		const vector = (key: string) => floats(key, [count]);
		const [timestep, signal, spread] = [vector('timestep'), vector('signal'), vector('spread')];
		const [targetX0, targetNoise, weight] = [vector('target_x0'), vector('target_noise'), vector('loss_weight')];
		for (let i = 0; i < count; i++) {
			const t = drawn[i]!;
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
			const data = new BigInt64Array(memory('labels', step, count * 8), 0, count);
			for (let i = 0; i < count; i++) {
				const dropped = streams.label.uniform(step, i) < objective.label_dropout;
				const label = labels[i]!;
				data[i] = BigInt(dropped || label < 0 ? none : label);
			}
			feeds[input] = { dtype: 'int64', shape: [count], data };
		}
		return feeds;
	};
}
