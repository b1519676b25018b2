/** @file GPipe (Huang et al., arXiv 1811.06965): all forwards, then all backwards; every micro-batch's activations are held at once. */
import { bestRows } from './best.ts';
import { checkPlaceOptions, checkScheduleOptions } from './options.ts';
import { folded, linear } from './topology.ts';
import type { Action, PlaceOptions, Schedule, ScheduleGenerator, Topology } from './types.ts';

/**
 * S rows of F0 .. F(M-1), B0 .. B(M-1). Backwards run in the order of the forwards, not reversed, so gradients are summed in the same order as under
 * every other schedule here.
 */
export const gpipe: ScheduleGenerator = (options) => {
	checkScheduleOptions('gpipe', options);
	const { stages, microBatches } = options;
	return Array.from({ length: stages }, (_, stage) =>
		(['F', 'B'] as const).flatMap((kind) => Array.from({ length: microBatches }, (_, micro): Action => ({ stage, kind, micro }))),
	);
};

export const placedGpipe = {
	topology(options: PlaceOptions): Topology {
		checkPlaceOptions('gpipe', options, { folded: true });
		return options.placement === 'folded' ? folded(options.ranks) : linear(options.ranks);
	},
	/** Folded, each rank runs the forwards of both its stages, then the backwards, as early as their inputs are there for the costs given. */
	rows(topology: Topology, options: PlaceOptions): Schedule {
		const { ranks, microBatches, placement } = options;
		if (placement !== 'folded') return gpipe({ stages: ranks, microBatches });
		const tries = [{ lead: 1, first: 'F' }] as const;
		return bestRows(topology, options, { name: 'gpipe', split: false, tries, forwardsFirst: true });
	},
};
