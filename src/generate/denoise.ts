/** @file Denoising on devices: a forward-only program, classifier-free guidance, and the sampler's steps on the host. */
import { DiffusionPipeError } from '../core/errors.ts';
import { randomStream } from '../core/random.ts';
import { sizeOf, type Tensor } from '../core/tensor.ts';
import { createSampler, initialState, type SchedulerConfig } from '../diffusion/samplers/index.ts';
import { createLocalEngine, type LocalEngine } from '../engine/local/engine.ts';
import type { Denoiser } from '../models/index.ts';
import { traceChain } from '../nn/chain.ts';
import { lowerForward } from '../program/lower.ts';
import { verifyProgram } from '../program/verify.ts';

/** A denoiser compiled for sampling. */
export interface Generator {
	/** Writes every parameter; `read` gives its values. */
	setWeights(read: (name: string, shape: readonly number[]) => Float32Array | Promise<Float32Array>): Promise<void>;
	/** Clean samples [images, channels, height, width], one per label, values as the sampler leaves them. */
	sample(options: DenoiseOptions): Promise<Float32Array>;
	close(): Promise<void>;
}

export interface DenoiseOptions {
	/** One image each. Ignored by models without labels but for their number. */
	readonly labels: readonly number[];
	readonly scheduler: SchedulerConfig;
	readonly steps: number;
	/** Classifier-free guidance: prediction = none + scale * (label - none). 1: no second pass. */
	readonly guidanceScale: number;
	/** Rows of the model's conditioning inputs by name, one per image; `none` those of the pass without the condition, for guidance. */
	readonly conditioning?: {
		readonly wanted: Readonly<Record<string, Float32Array>>;
		readonly none: Readonly<Record<string, Float32Array>>;
	};
	/** Image i's noise is a function of (seed, i) alone. */
	readonly seed: number;
	readonly signal?: AbortSignal;
	readonly onStep?: (step: number, steps: number) => void;
}

/** Compiles `denoiser` for `devices` devices; up to `rows` model inputs run at once. */
export async function createGenerator(
	denoiser: Denoiser,
	{ devices, rows, threads = 1 }: { readonly devices: number; readonly rows: number; readonly threads?: number },
): Promise<Generator> {
	// Larger micro-batches gain nothing on a core and cost memory.
	const microBatchSize = Math.max(1, Math.min(Math.ceil(rows / devices), 64));
	const trace = traceChain(denoiser.chain, microBatchSize);
	const compiled = lowerForward(trace, { devices, microBatchSize });
	verifyProgram(compiled.program);
	const engine = await createLocalEngine(compiled, { threads });
	const [bank] = compiled.banks;
	const at = devices * microBatchSize;
	return {
		async setWeights(read) {
			for (const p of bank!.parameters) {
				const values = await read(p.name, p.shape);
				for (const d of compiled.program.devices) engine.bank(d.device, bank!.bank, 'parameter').set(values, p.offset);
			}
		},
		sample: (options) => denoise(denoiser, engine, at, options),
		close: () => engine.close(),
	};
}

async function denoise(denoiser: Denoiser, engine: LocalEngine, batch: number, options: DenoiseOptions): Promise<Float32Array> {
	const { labels, steps, guidanceScale, seed, signal } = options;
	const shape = denoiser.chain.inputs[denoiser.sample]!.shape;
	const size = sizeOf(shape);
	const images = labels.length;
	const sampler = createSampler(options.scheduler, { steps, batch: images });
	const start = randomStream(seed, 'sample.noise');
	const later = randomStream(seed, 'sample.step_noise');
	/** Noise of one step: image i draws from address i, so that it does not depend on how many are drawn beside it. */
	const noise = (stream: typeof start, step: number) => {
		const out = new Float32Array(images * size);
		for (let i = 0; i < images; i++) stream.normals(out.subarray(i * size, (i + 1) * size), i, step * size);
		return out;
	};
	let x: Float32Array = noise(start, 0).map((v) => v * sampler.initNoiseSigma);
	let state = initialState;
	const guided = (denoiser.labels !== undefined || options.conditioning !== undefined) && guidanceScale !== 1;
	for (let i = 0; i < steps; i++) {
		if (signal?.aborted) throw new DiffusionPipeError('engine', 'sampling was stopped', { place: `step ${i} of ${steps}` });
		const input = sampler.scaleModelInput(x, i);
		const t = sampler.timesteps[i]!;
		let output = await predict(denoiser, engine, batch, input, labels, t, options.conditioning?.wanted);
		if (guided) {
			const noLabels = new Array<number>(images).fill(denoiser.labels?.none ?? 0);
			const none = await predict(denoiser, engine, batch, input, noLabels, t, options.conditioning?.none);
			output = none.map((v, k) => v + guidanceScale * (output[k]! - v));
		}
		const result = sampler.step(output, i, x, state, sampler.needsNoise(i) ? noise(later, i) : undefined);
		x = result.sample;
		state = result.state;
		options.onStep?.(i + 1, steps);
	}
	return x;
}

/** The model's prediction for every image: full batches, the last one padded with zeros. Variance channels are left out. */
async function predict(
	denoiser: Denoiser,
	engine: LocalEngine,
	batch: number,
	x: Float32Array,
	labels: readonly number[],
	timestep: number,
	conditioning: Readonly<Record<string, Float32Array>> = {},
): Promise<Float32Array> {
	const shape = denoiser.chain.inputs[denoiser.sample]!.shape;
	const size = sizeOf(shape);
	const out = new Float32Array(x.length);
	for (let from = 0; from < labels.length; from += batch) {
		const count = Math.min(batch, labels.length - from);
		const sample = new Float32Array(batch * size);
		sample.set(x.subarray(from * size, (from + count) * size));
		const feeds: Record<string, Tensor> = {
			[denoiser.sample]: { dtype: 'float32', shape: [batch, ...shape], data: sample },
			timestep: { dtype: 'float32', shape: [batch], data: new Float32Array(batch).fill(timestep) },
		};
		for (const [name, input] of Object.entries(denoiser.conditioning)) {
			const row = sizeOf(input.shape);
			const data = new Float32Array(batch * row);
			data.set(conditioning[name]!.subarray(from * row, (from + count) * row));
			feeds[name] = { dtype: 'float32', shape: [batch, ...input.shape], data };
		}
		if (denoiser.labels) {
			const data = new BigInt64Array(batch);
			for (let i = 0; i < batch; i++) data[i] = BigInt(i < count ? labels[from + i]! : denoiser.labels.none);
			feeds[denoiser.labels.input] = { dtype: 'int64', shape: [batch], data };
		}
		const { fetched } = await engine.run('iteration', feeds);
		const result = fetched.get(denoiser.output)!;
		const stride = sizeOf(result.shape.slice(1));
		for (let i = 0; i < count; i++) out.set((result.data as Float32Array).subarray(i * stride, i * stride + size), (from + i) * size);
	}
	return out;
}
