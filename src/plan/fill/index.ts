/** @file Frozen work put into the idle time of a pipeline's iteration. */
import { lowerBound } from './bound.ts';
import { greedyFilling } from './greedy.ts';
import { fillModel } from './model.ts';
import { type Filling, fillResult, iterationOf } from './result.ts';
import { sharesFilling } from './shares.ts';
import type { FillProblem, FillResult } from './types.ts';

export { checkFill } from './check.ts';
export type { FillItem, FillMove, FillProblem, FillResult, IdleInterval } from './types.ts';

export interface FillOptions {
	/** How hard to look beyond the greedy and the shares; 1 unless given, 0 where hundreds of fillings are compared. */
	readonly effort?: number;
}

/**
 * Where and when every layer of every frozen component runs on every sample of the batch: inside idle time as far as that goes, else after the flush.
 * The best of the greedy of DiffusionPipe, shares of the batch per device, and what searches make of them; never worse than the greedy, and nothing more
 * is tried once `lowerBoundMs` is reached. Deterministic. Throws an input error for a problem without sense, and one naming component and layer when a
 * layer's weights fit nowhere.
 */
export function fillBubbles(problem: FillProblem, { effort = 1 }: FillOptions = {}): FillResult {
	const model = fillModel(problem);
	if (model.blocks.length === 0) return fillResult(model, { method: 'nothing to fill in', pieces: [], transfers: [] }, problem.endMs);
	const bound = lowerBound(model);
	const reaches = (filling: Filling): boolean => iterationOf(model, filling) <= bound + model.eps;
	const shares = sharesFilling(model, effort > 0 ? 500 : 60, effort > 0 ? 400 : 40);
	if (shares && reaches(shares)) return fillResult(model, shares, bound);
	let best = greedyFilling(model);
	if (shares && iterationOf(model, shares) <= iterationOf(model, best) + model.eps) best = shares;
	return fillResult(model, best, bound);
}
