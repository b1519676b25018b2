/** @file GPipe (Huang et al., arXiv 1811.06965): all forwards, then all backwards; every micro-batch's activations are held at once. */
import { checkPlaceOptions, checkScheduleOptions } from './options.ts';
import { linear } from './topology.ts';
import type { Action, PlacedSchedule, PlaceOptions, ScheduleGenerator } from './types.ts';

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

/** One stage per rank. */
export function placeGpipe(options: PlaceOptions): PlacedSchedule {
	checkPlaceOptions('gpipe', options);
	const { ranks, microBatches } = options;
	return { ...linear(ranks), rows: gpipe({ stages: ranks, microBatches }) };
}
