/** @file The denoising loop, whatever the model: seeded noise, classifier-free guidance in one pass of twice the rows, the sampler's steps on the host. */
import { DiffusionPipeError } from '../core/errors.ts';
import { randomStream } from '../core/random.ts';
import { makeArray, type Shape, sizeOf, type Tensor } from '../core/tensor.ts';
import { initialState, type Sampler } from '../diffusion/samplers/index.ts';
import type { Forward } from '../engine/local/forward.ts';
import type { Denoiser } from '../models/index.ts';

/** Standard normal noise of one step for all images, [images, ...]. */
export type NoiseOfStep = (step: number) => Float32Array;

/** Noise to start from, and noise for the steps of samplers that take some. */
export interface ImageNoise {
	readonly start: NoiseOfStep;
	readonly later: NoiseOfStep;
}

/** Image i's noise, `size` numbers, is a function of (seed, addresses[i], step) alone: not of how many are drawn beside it. */
export function imageNoise(seed: number, addresses: readonly number[], size: number): ImageNoise {
	const from = (name: string): NoiseOfStep => {
		const stream = randomStream(seed, name);
		return (step) => {
			const out = new Float32Array(addresses.length * size);
			addresses.forEach((address, i) => {
				stream.normals(out.subarray(i * size, (i + 1) * size), address, step * size);
			});
			return out;
		};
	};
	return { start: from('sample.noise'), later: from('sample.step_noise') };
}

/** Between samples as the sampler has them, one after the other, and rows as the model has them. Both are flat. */
export interface SampleLayout {
	/** A sample [channels, height, width] as the model's input. */
	pack(sample: Float32Array): Float32Array;
	/** Of a row of the model's output, the sample it predicts. */
	unpack(row: Float32Array): Float32Array;
}

/** For models whose rows are samples; channels beyond the sample's, predicted variances, are left out. */
export function plainLayout(size: number): SampleLayout {
	return { pack: (sample) => sample, unpack: (row) => row.subarray(0, size) };
}

/**
 * The model's prediction for all images [images, ...] at a timestep of the schedule. Self-conditioned models take the estimate of the clean samples from
 * the step before, too; zeros in the first.
 */
export type Predict = (samples: Float32Array, timestep: number, estimate?: () => Float32Array) => Promise<Float32Array>;

/** What predictions are made with. */
export interface PredictOptions {
	readonly denoiser: Denoiser;
	readonly forward: Pick<Forward, 'run'>;
	readonly images: number;
	/** Labels and conditioning by chain input, one row per image; with guidance the rows without the condition after them. */
	readonly conditions: Readonly<Record<string, Tensor>>;
	/** prediction = none + scale * (wanted - none) from rows of both kinds; undefined: the rows wanted alone. */
	readonly guidanceScale: number | undefined;
	readonly layout: SampleLayout;
}

/** Predictions with classifier-free guidance (Ho and Salimans, 2207.12598). Both kinds of rows run together, so that devices share them. */
export function predictor(options: PredictOptions): Predict {
	const { denoiser, forward, images, guidanceScale, layout } = options;
	const rows = guidanceScale === undefined ? images : 2 * images;
	const shape = denoiser.chain.inputs[denoiser.sample]!.shape;
	const fixed = Object.fromEntries(Object.entries(denoiser.fixed).map(([name, value]) => [name, repeated(value, rows)]));
	return async (samples, timestep, estimate) => {
		const size = samples.length / images;
		const packed = (values: Float32Array): Tensor => {
			const data = new Float32Array(rows * sizeOf(shape));
			for (let r = 0; r < rows; r++) {
				const i = r % images;
				data.set(layout.pack(values.subarray(i * size, (i + 1) * size)), r * sizeOf(shape));
			}
			return { dtype: 'float32', shape: [rows, ...shape], data };
		};
		const own = denoiser.selfConditioning;
		const clipped = own && (estimate?.() ?? new Float32Array(samples.length)).map((v) => Math.min(own.limit, Math.max(-own.limit, v)));
		const results = await forward.run({
			...options.conditions,
			...fixed,
			[denoiser.sample]: packed(samples),
			...(clipped ? { [own.input]: packed(clipped) } : {}),
			timestep: { dtype: 'float32', shape: [rows], data: new Float32Array(rows).fill(timestep * denoiser.timestepScale) },
		});
		const output = results[denoiser.output]!;
		const stride = sizeOf(output.shape.slice(1));
		const row = (r: number) => layout.unpack((output.data as Float32Array).subarray(r * stride, (r + 1) * stride));
		const predicted = new Float32Array(samples.length);
		for (let i = 0; i < images; i++) {
			const wanted = row(i);
			const mine = predicted.subarray(i * size, (i + 1) * size);
			if (guidanceScale === undefined) mine.set(wanted);
			else {
				const none = row(images + i);
				for (let k = 0; k < size; k++) mine[k] = none[k]! + guidanceScale * (wanted[k]! - none[k]!);
			}
		}
		return predicted;
	};
}

/** `value` as rows, the same in each. */
export function repeated(value: Tensor, rows: number): Tensor {
	return gathered({ ...value, shape: [1, ...value.shape] }, new Array<number>(rows).fill(0));
}

/** The rows `indices` of `t`, as a new tensor. */
export function gathered({ dtype, shape, data }: Tensor, indices: readonly number[]): Tensor {
	const row: Shape = shape.slice(1);
	const stride = sizeOf(row);
	const out = makeArray(dtype, indices.length * stride);
	indices.forEach((index, i) => {
		// Both arrays hold the same element type; the compiler sees only that each holds some.
		(out as Float32Array).set(data.subarray(index * stride, (index + 1) * stride) as Float32Array, i * stride);
	});
	return { dtype, shape: [indices.length, ...row], data: out };
}

/** One run of the loop. */
export interface DenoisingRun {
	readonly sampler: Sampler;
	/** Samples on the sampler's own scale, as step `firstStep` takes them. */
	readonly samples: Float32Array;
	/** Above 0 when an image is changed rather than made. Default 0. */
	readonly firstStep?: number;
	readonly predict: Predict;
	readonly noise: NoiseOfStep;
	readonly signal?: AbortSignal | undefined;
	/** Called after each step with the steps done and those there are in this run. */
	readonly onStep?: ((step: number, steps: number) => void) | undefined;
}

/** Walks the sampler's steps to the end and gives the clean samples. Throws an engine error when `signal` is aborted between two steps. */
export async function denoiseSamples({
	sampler,
	samples,
	firstStep = 0,
	predict,
	noise,
	signal,
	onStep,
}: DenoisingRun): Promise<Float32Array> {
	const steps = sampler.timesteps.length;
	let x = samples;
	let state = initialState;
	let estimate: (() => Float32Array) | undefined;
	for (let i = firstStep; i < steps; i++) {
		stopWhenAborted(signal, `step ${i} of ${steps}`);
		const output = await predict(sampler.scaleModelInput(x, i), sampler.timesteps[i]!, estimate);
		const from = x;
		estimate = () => sampler.predictOriginal(output, i, from);
		const result = sampler.step(output, i, x, state, sampler.needsNoise(i) ? noise(i) : undefined);
		x = result.sample;
		state = result.state;
		onStep?.(i + 1 - firstStep, steps - firstStep);
	}
	return x;
}

/** Throws the error of a run that was stopped when `signal` is aborted. */
export function stopWhenAborted(signal: AbortSignal | undefined, place: string): void {
	if (signal?.aborted) throw new DiffusionPipeError('engine', 'sampling was stopped', { place });
}
