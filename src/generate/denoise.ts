/** @file A denoiser compiled once to draw from often, with new weights in between: what training draws its samples with. */
import { sizeOf, type Tensor } from '../core/tensor.ts';
import { createSampler, type SchedulerConfig } from '../diffusion/samplers/index.ts';
import { openForward } from '../engine/local/forward.ts';
import type { Denoiser } from '../models/index.ts';
import { denoiseSamples, imageNoise, plainLayout, predictor } from './denoising.ts';

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
	const batch = Math.max(1, Math.min(Math.ceil(rows / devices), 64));
	const forward = await openForward(denoiser.chain, { devices, batch, threads });
	return {
		setWeights: (read) => forward.setWeights(read),
		sample({ labels, scheduler, steps, guidanceScale, conditioning, seed, signal, onStep }) {
			const images = labels.length;
			const size = sizeOf(denoiser.chain.inputs[denoiser.sample]!.shape);
			const sampler = createSampler(scheduler, { steps, batch: images });
			const noise = imageNoise(
				seed,
				labels.map((_, i) => i),
				size,
			);
			const guided = (denoiser.labels !== undefined || conditioning !== undefined) && guidanceScale !== 1;
			const predict = predictor({
				denoiser,
				forward,
				images,
				conditions: { ...labelRows(denoiser, labels, guided), ...conditioningRows(denoiser, conditioning, images, guided) },
				guidanceScale: guided ? guidanceScale : undefined,
				layout: plainLayout(size),
			});
			const samples = noise.start(0).map((v) => v * sampler.initNoiseSigma);
			return denoiseSamples({ sampler, samples, predict, noise: noise.later, signal, onStep });
		},
		close: () => forward.close(),
	};
}

/** The input of labels for all images, with guidance followed by as many rows of the label that means none; nothing for models without labels. */
export function labelRows(denoiser: Denoiser, labels: readonly number[], guided: boolean): Record<string, Tensor> {
	if (!denoiser.labels) return {};
	const { input, none } = denoiser.labels;
	const all = guided ? [...labels, ...labels.map(() => none)] : labels;
	return { [input]: { dtype: 'int64', shape: [all.length], data: BigInt64Array.from(all, BigInt) } };
}

function conditioningRows(
	denoiser: Denoiser,
	conditioning: DenoiseOptions['conditioning'],
	images: number,
	guided: boolean,
): Record<string, Tensor> {
	if (!conditioning) return {};
	return Object.fromEntries(
		Object.entries(denoiser.conditioning).map(([name, { shape }]) => {
			const rows = guided ? 2 * images : images;
			const data = new Float32Array(rows * sizeOf(shape));
			data.set(conditioning.wanted[name]!);
			if (guided) data.set(conditioning.none[name]!, images * sizeOf(shape));
			return [name, { dtype: 'float32', shape: [rows, ...shape], data }];
		}),
	);
}
