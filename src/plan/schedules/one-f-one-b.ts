/**
 * @file 1F1B (PipeDream-Flush, Narayanan et al., arXiv 2006.09503): after its warm-up a stage alternates one forward and one backward, so that it
 * holds the activations of at most warm-up + 1 micro-batches.
 */
import { checkPlaceOptions, checkScheduleOptions } from './options.ts';
import { linear } from './topology.ts';
import type { Action, PlacedSchedule, PlaceOptions, ScheduleGenerator, WarmUp } from './types.ts';

/** Forwards that stage `stage` of `stages` runs before its first pair of forward and backward; fewer when the iteration has fewer micro-batches. */
export function warmUpDepth(stage: number, stages: number, warmup: WarmUp = 'usual'): number {
	return (stages - 1 - stage) * (warmup === 'deep' ? 2 : 1);
}

/** S rows: warm-up forwards, pairs of forward and backward, remaining backwards. */
export const oneFOneB: ScheduleGenerator = (options) => {
	checkScheduleOptions('1f1b', options);
	const { stages, microBatches, warmup } = options;
	return Array.from({ length: stages }, (_, stage) => {
		const depth = Math.min(microBatches, warmUpDepth(stage, stages, warmup));
		const row: Action[] = [];
		for (let micro = 0; micro < microBatches + depth; micro++) {
			if (micro < microBatches) row.push({ stage, kind: 'F', micro });
			if (micro >= depth) row.push({ stage, kind: 'B', micro: micro - depth });
		}
		return row;
	});
};

/** One stage per rank. */
export function placeOneFOneB(options: PlaceOptions): PlacedSchedule {
	checkPlaceOptions('1f1b', options);
	const { ranks, microBatches, warmup = 'usual' } = options;
	return { ...linear(ranks), rows: oneFOneB({ stages: ranks, microBatches, warmup }) };
}
