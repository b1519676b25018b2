/** @file Time of a layer at any batch: linear between the batch sizes of the profile, proportional outside them. */
import type { Backbone } from './types.ts';

/** `ms[i]` is the time at `batchSizes[i]` samples (ascending); the time at `batch` samples, 0 at 0. */
export function timeAt(batchSizes: readonly number[], ms: readonly number[], batch: number): number {
	const last = batchSizes.length - 1;
	if (batch <= batchSizes[0]!) return (ms[0]! * batch) / batchSizes[0]!;
	if (batch >= batchSizes[last]!) return (ms[last]! * batch) / batchSizes[last]!;
	let above = 1;
	while (batchSizes[above]! < batch) above++;
	const [low, high] = [batchSizes[above - 1]!, batchSizes[above]!];
	return ms[above - 1]! + ((ms[above]! - ms[above - 1]!) * (batch - low)) / (high - low);
}

/** Forward and backward of each layer at the profile's largest batch size, ms. */
export function layerMs({ layers }: Pick<Backbone, 'layers'>): number[] {
	return layers.map((l) => l.forwardMs.at(-1)! + l.backwardInputMs.at(-1)! + l.backwardWeightMs.at(-1)!);
}
