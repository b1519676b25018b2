/**
 * @file Zero bubble (Qi et al., arXiv 2401.10241): backwards in two parts, so that the gradient for the stage before goes out early (I) and the
 * gradients of the weights (W) fill what would be idle time.
 */
import { aheadBytes, bestRows, type Try } from './best.ts';
import { oneFOneB } from './one-f-one-b.ts';
import { checkPlaceOptions } from './options.ts';
import { folded, linear } from './topology.ts';
import type { Action, PlaceOptions, Schedule, ScheduleOptions, Topology } from './types.ts';

const name = 'zero-bubble';

/**
 * ZB-H1, the order that the paper writes by hand: that of 1F1B with the W of stage s put off by s micro-batches, so that every stage holds up to S of
 * them, as much as the first stage of 1F1B. Where all stages cost the same, hops nothing, W no more than F and I, and S or more micro-batches run, each
 * rank is idle for (S-1)(F + I - W).
 */
export function zeroBubbleH1({ stages, microBatches }: ScheduleOptions): Schedule {
	return oneFOneB({ stages, microBatches }).map((row, stage) => {
		const out: Action[] = [];
		for (const { kind, micro } of row) {
			out.push({ stage, kind: kind === 'B' ? 'I' : kind, micro });
			if (kind === 'B' && micro >= stage) out.push({ stage, kind: 'W', micro: micro - stage });
		}
		for (let micro = Math.max(0, microBatches - stage); micro < microBatches; micro++) out.push({ stage, kind: 'W', micro });
		return out;
	});
}

/** Chosen by how often each was best over random costs, placements and limits. */
const tries: readonly Try[] = [
	{ lead: 1, first: 'F' },
	{ lead: 2, first: 'F' },
	{ lead: 3, first: 'B' },
	{ lead: 1.5, first: 'F', patience: 0.5 },
	{ lead: 1, first: 'B', patience: 0.5 },
	{ lead: 1.25, first: 'B', among: 'older', patience: 0.5 },
	{ lead: 1.5, first: 'F', among: 'older' },
	{ lead: 1.25, first: 'B' },
	{ lead: 2, first: 'B', patience: 0.5 },
	{ lead: 1, first: 'B', patience: 1 },
];

export const zeroBubble = {
	topology(options: PlaceOptions): Topology {
		checkPlaceOptions(name, options, { folded: true });
		return options.placement === 'folded' ? folded(options.ranks) : linear(options.ranks);
	},
	/**
	 * The best order for the costs that saves no more than ZB-H1 (with the usual warm-up: R micro-batches of all its stages on every rank, or what 1F1B
	 * saves there if that is more) or twice that (deep: what ZB-H2 needs). On one stage per rank never later than ZB-H1 and
	 * than 1F1B of the same warm-up.
	 */
	rows(topology: Topology, options: PlaceOptions): Schedule {
		const { ranks, microBatches, warmup = 'usual', costs } = options;
		const stages = topology.stages.length;
		const each = new Array<number>(ranks).fill(0);
		for (const [stage, { rank }] of topology.stages.entries()) each[rank]! += costs ? costs.stages[stage]!.savedBytes : 1;
		const savedBytes = aheadBytes(topology, options, 1).map(
			(bytes, rank) => Math.max(bytes, ranks * each[rank]!) * (warmup === 'deep' ? 2 : 1),
		);
		const ready = stages === ranks ? [zeroBubbleH1({ stages, microBatches }), oneFOneB({ stages, microBatches, warmup })] : [];
		return bestRows(topology, options, { name, split: true, tries, ready, savedBytes });
	},
};
