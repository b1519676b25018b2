/** @file A filling as decisions: rectangles of blocks and samples, each with a device, in the order in which they take their places. */
import type { FillModel } from './model.ts';
import type { Piece } from './timeline.ts';

/**
 * Blocks [first, end) of one component on samples [from, to), run on one device in order, with breaks wherever its idle time has them. The runs of a
 * component tile its blocks x samples, so that what a run waits for are the runs that end where it begins.
 */
export interface Run {
	readonly first: number;
	readonly end: number;
	readonly from: number;
	readonly to: number;
	readonly device: number;
	/** Whether a block that does not fit what is left of a window runs on part of the samples there. */
	readonly cut: boolean;
}

/** The runs of pieces in order of start: blocks that follow one another on the same samples and device are one run. */
export function runsOf(model: FillModel, pieces: readonly Piece[]): Run[] {
	const { blocks } = model;
	const inOrder = [...pieces].sort((a, b) => a.start - b.start || a.block - b.block);
	const runs: Run[] = [];
	/** The run that ended last with a block on samples that begin there, by component and first sample. */
	const open = new Map<number, number>();
	for (const { block, from, to, device } of inOrder) {
		const key = blocks[block]!.component * model.batch + from;
		const at = open.get(key);
		const before = at === undefined ? undefined : runs[at];
		if (at !== undefined && before?.end === block && before.to === to && before.device === device) {
			runs[at] = { ...before, end: block + 1 };
			continue;
		}
		open.set(key, runs.length);
		runs.push({ first: block, end: block + 1, from, to, device, cut: false });
	}
	return runs;
}
