/** @file Elementwise arithmetic of samplers: weighted sums computed in float64 and rounded once, clipping and dynamic thresholding. */
import { DiffusionPipeError } from '../../core/errors.ts';
import type { OutputMix } from '../prediction.ts';

/** A weighted array. */
export type Term = readonly [weight: number, array: Float32Array];

/** The sum of the weighted arrays, as a new array. Terms of weight 0 are left out, so that 0 times an infinity does no harm. */
export function mix(...terms: readonly Term[]): Float32Array {
	const size = terms[0]![1].length;
	const used = terms.filter(([weight]) => weight !== 0);
	const sum = new Float64Array(size);
	for (const [weight, array] of used) for (let i = 0; i < size; i++) sum[i]! += weight * array[i]!;
	return Float32Array.from(sum);
}

/** The mixture of a sample and a model's output. */
export function mixOutput({ sample, output }: OutputMix, x: Float32Array, modelOutput: Float32Array): Float32Array {
	return mix([sample, x], [output, modelOutput]);
}

/** What happens to the predicted x0, from a scheduler's options. */
export interface OriginalLimits {
	readonly clip_sample?: boolean;
	readonly clip_sample_range?: number;
	readonly thresholding: boolean;
	readonly dynamic_thresholding_ratio: number;
	readonly sample_max_value: number;
}

/** The function that clips or thresholds a predicted x0 in place, as the options say; thresholding goes before clipping. */
export function originalLimiter(className: string, options: OriginalLimits, batch: number | undefined): (x0: Float32Array) => Float32Array {
	if (options.thresholding) {
		if (batch === undefined) {
			throw new DiffusionPipeError('config', 'thresholding needs the number of images in an array', {
				place: `${className} thresholding`,
				hint: 'give `batch` with the steps',
			});
		}
		return (x0) => threshold(className, x0, batch, options.dynamic_thresholding_ratio, options.sample_max_value);
	}
	const range = options.clip_sample === true ? (options.clip_sample_range ?? 1) : undefined;
	return range === undefined ? (x0) => x0 : (x0) => clip(x0, 0, x0.length, range, 1);
}

function clip(x: Float32Array, from: number, to: number, range: number, divisor: number): Float32Array {
	for (let i = from; i < to; i++) x[i] = Math.min(Math.max(x[i]!, -range), range) / divisor;
	return x;
}

/**
 * Dynamic thresholding (Saharia et al., "Imagen", arXiv 2205.11487, section 2.3): per image, s is the `ratio` quantile of |x0|, kept within
 * [1, max]; x0 is clipped to [-s, s] and divided by s.
 */
function threshold(className: string, x0: Float32Array, batch: number, ratio: number, max: number): Float32Array {
	const size = x0.length / batch;
	if (!Number.isInteger(size)) {
		throw new DiffusionPipeError('input', 'bad sample', {
			place: className,
			expected: `a multiple of the ${batch} images`,
			found: `${x0.length} elements`,
		});
	}
	for (let image = 0; image < batch; image++) {
		const sorted = x0
			.slice(image * size, (image + 1) * size)
			.map(Math.abs)
			.sort();
		const position = ratio * (size - 1);
		const below = Math.floor(position);
		const low = sorted[below]!;
		const quantile = low + (position - below) * ((sorted[below + 1] ?? low) - low);
		const s = Math.min(Math.max(quantile, 1), max);
		clip(x0, image * size, (image + 1) * size, s, s);
	}
	return x0;
}
