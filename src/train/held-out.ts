/** @file The examples a run sets aside, ready to be measured: loaded and encoded once, in the order of their names. */
import { DiffusionPipeError } from '../core/errors.ts';
import { sizeOf } from '../core/tensor.ts';
import type { Denoiser } from '../models/index.ts';
import type { TrainConfig } from './config.ts';
import type { DataOptions } from './data/index.ts';
import { openLoader } from './data/loader.ts';
import { type FrozenParts, pictureRows } from './frozen-parts.ts';

/** One example in the model's space. */
export interface HeldOut {
	readonly name: string;
	readonly sample: Float32Array;
	readonly label: number;
	/** Rows of the model's conditioning inputs by name. */
	readonly conditioning: Readonly<Record<string, Float32Array>>;
}

/** The held-out part that `[eval]` names, as options of a loader; for training the rest of it. */
export function holdoutOf(config: TrainConfig, keep: 'train' | 'held-out') {
	const { every_steps, holdout } = config.eval;
	return every_steps > 0 && typeof holdout === 'number' ? { holdout: { size: holdout, keep } } : {};
}

/**
 * Loads every held-out example once. Latents are the means of their posteriors, and captions are those of the data, so that the same example is always the
 * same. Examples that cannot be loaded are left out.
 */
export async function loadHeldOut(config: TrainConfig, denoiser: Denoiser, { vae, text }: FrozenParts): Promise<HeldOut[]> {
	// All at the first size, whatever sizes are trained on: a loss over several would depend on how many there are of each.
	const { buckets: _, ...oneSize } = config.data;
	const data = (config.eval.holdout === 'split' ? { ...oneSize, split: 'held-out' } : oneSize) as DataOptions;
	const batchSize = config.eval.batch_size;
	const loader = await openLoader(data, { seed: 0, batchSize, ...holdoutOf(config, 'held-out') });
	try {
		const found = new Map<string, HeldOut>();
		for (let step = 0; step * batchSize < loader.info.size; step++) {
			const { images, labels, captions, names, conditioning: pictures } = await loader.batchAt(step);
			const samples = vae ? await vae.encode(images, names, undefined) : images;
			const states = { ...(text ? await text.encode(captions) : {}), ...pictureRows(pictures) };
			const row = (all: Float32Array, i: number) => all.slice((i * all.length) / names.length, ((i + 1) * all.length) / names.length);
			names.forEach((name, i) => {
				const conditioning = Object.fromEntries(Object.entries(states).map(([key, rows]) => [key, row(rows, i)]));
				found.set(name, { name, sample: row(samples, i), label: labels[i]!, conditioning });
			});
		}
		const all = [...found.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
		const size = sizeOf(denoiser.chain.inputs[denoiser.sample]!.shape);
		const misfit = all.find(({ sample }) => sample.length !== size);
		if (!misfit) return all;
		throw new DiffusionPipeError('config', 'a held-out example does not fit the model', {
			place: misfit.name,
			expected: `${size} values`,
			found: String(misfit.sample.length),
		});
	} finally {
		await loader.close();
	}
}
