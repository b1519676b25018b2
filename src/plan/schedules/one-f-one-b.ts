/**
 * @file 1F1B (PipeDream-Flush, Narayanan et al., arXiv 2006.09503): after its warm-up a stage alternates one forward and one backward, so that it
 * holds the activations of at most warm-up + 1 micro-batches.
 */
import { bestRows, type Try } from './best.ts';
import { checkPlaceOptions, checkScheduleOptions } from './options.ts';
import { folded, linear } from './topology.ts';
import type { Action, PlaceOptions, Schedule, ScheduleGenerator, Topology, WarmUp } from './types.ts';

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

const tries = (leads: readonly number[]): Try[] => leads.flatMap((lead) => (['F', 'B'] as const).map((first) => ({ lead, first })));

export const placedOneFOneB = {
	topology(options: PlaceOptions): Topology {
		checkPlaceOptions('1f1b', options, { folded: true });
		return options.placement === 'folded' ? folded(options.ranks) : linear(options.ranks);
	},
	/**
	 * Folded, the best order for the costs in which each of the 2R stages holds as many micro-batches at most as in a chain of 2R ranks (or twice that
	 * beyond the one in hand: deep): 2R+1 on every rank, each of one stage.
	 */
	rows(topology: Topology, options: PlaceOptions): Schedule {
		const { ranks, microBatches, warmup = 'usual', placement } = options;
		if (placement !== 'folded') return oneFOneB({ stages: ranks, microBatches, warmup });
		return bestRows(topology, options, { name: '1f1b', split: false, tries: tries(warmup === 'deep' ? [1, 2, 1.5] : [1]) });
	},
};
