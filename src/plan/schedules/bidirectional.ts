/**
 * @file Two backbones (or more, by turns) in opposite directions over the same ranks, in the manner of Chimera (Li and Hoefler, arXiv 2107.06925) and of DiffusionPipe's
 * cascades (Tian et al., arXiv 2405.01248): one works while the other fills and drains.
 */
import { aheadBytes, bestRows, type Try } from './best.ts';
import { checkPlaceOptions } from './options.ts';
import { bothWays } from './topology.ts';
import type { PlaceOptions, Schedule, Topology } from './types.ts';

const name = 'bidirectional';

/** Leads of the backbones that go down and of those that go up; chosen by how often each was best over random costs and limits. */
const tries: readonly Try[] = [
	{ lead: 1, first: 'F', among: 'older' },
	{ lead: 2, first: 'F', among: 'older' },
	{ lead: [1, 3], first: 'F', among: 'older' },
	{ lead: [3, 0.6], first: 'F', among: 'older' },
	{ lead: 0.8, first: 'B' },
	{ lead: [2, 3], first: 'F', among: 'older' },
	{ lead: 1.4, first: 'F', among: 'older' },
	{ lead: [0.6, 3], first: 'F' },
	{ lead: 0.8, first: 'F', among: 'older' },
	{ lead: 1, first: 'F' },
	{ lead: 3, first: 'F', among: 'older' },
];

export const bidirectional = {
	topology(options: PlaceOptions): Topology {
		checkPlaceOptions(name, options, { backbones: 2 });
		return bothWays(options.ranks, options.backbones ?? 2);
	},
	/** The best order for the costs that saves no more than 1F1B of each backbone would (R+1 micro-batches per rank), or twice that (deep). */
	rows(topology: Topology, options: PlaceOptions): Schedule {
		const scale = options.warmup === 'deep' ? 2 : 1;
		const savedBytes = aheadBytes(topology, options, 1).map((bytes) => bytes * scale);
		return bestRows(topology, options, { name, split: false, tries, savedBytes });
	},
};
