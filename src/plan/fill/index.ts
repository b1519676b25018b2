/** @file Frozen work put into the idle time of a pipeline's iteration. */
import { chainBound, leastWork, lowerBound } from './bound.ts';
import { composeBest } from './compose.ts';
import { exactFilling } from './exact.ts';
import { greedyFilling } from './greedy.ts';
import { improve } from './improve.ts';
import { fillModel } from './model.ts';
import { type Placer, placerOf } from './placer.ts';
import { type Filling, fillResult, iterationOf } from './result.ts';
import { type Run, runsOf } from './runs.ts';
import { sharesFilling } from './shares.ts';
import type { FillProblem, FillResult } from './types.ts';

export { checkFill } from './check.ts';
export type { FillItem, FillMove, FillProblem, FillResult, IdleInterval } from './types.ts';

export interface FillOptions {
	/** How hard to look beyond the greedy and the shares; 1 unless given, 0 where hundreds of fillings are compared. */
	readonly effort?: number;
}

/**
 * Steps of the placer for compositions at no effort, more where weights leave them alone with the greedy; at effort 1 for them and the local search; and
 * looks of the branch and bound.
 */
const STEPS = { quick: 4e3, alone: 2e4, compose: 3e5, improve: 3e5, exact: 3e5 };

/**
 * Where and when every layer of every frozen component runs on every sample of the batch: inside idle time as far as that goes, else after the flush.
 * The best of the greedy of DiffusionPipe, shares of the batch per device, compositions by list scheduling, and with effort branch and bound for small
 * problems or a local search over all of these; never worse than the greedy, and nothing more is tried once `lowerBoundMs` is reached. Parts have the
 * profile's sizes, those of the batch split evenly over some of the devices, or what remains of the batch or of such a part. Deterministic. Throws an
 * input error for a problem without sense, and one naming component and layer when a layer's weights fit nowhere.
 */
export function fillBubbles(problem: FillProblem, { effort = 1 }: FillOptions = {}): FillResult {
	const model = fillModel(problem);
	if (model.blocks.length === 0) return fillResult(model, { method: 'nothing to fill in', pieces: [], transfers: [] }, problem.endMs);
	// a bound on merged layers would be one on fillings that keep them together.
	const single = model.merged ? fillModel(problem, Number.POSITIVE_INFINITY) : model;
	const least = leastWork(single);
	let bound = lowerBound(single, least);
	const candidates: Filling[] = [];
	let best: Filling | undefined;
	/** Keeps the better one, at a tie the earlier; true when the bound is reached. */
	const consider = (filling: Filling | undefined): boolean => {
		if (!filling) return false;
		candidates.push(filling);
		const [ours, theirs] = [best ? iterationOf(model, best) : Number.POSITIVE_INFINITY, iterationOf(model, filling)];
		if (theirs < ours - model.eps) best = filling;
		return iterationOf(model, best!) <= bound + model.eps;
	};
	const done = (): FillResult => fillResult(model, best!, bound);
	const shares = sharesFilling(model, effort > 0 ? 500 : 60, effort > 0 ? 400 : 40);
	if (consider(shares)) return done();
	bound = Math.max(bound, chainBound(single, least));
	if (consider(greedyFilling(model))) return done();
	const placer = placerOf(model);
	const steps = Math.max(effort * STEPS.compose, shares ? STEPS.quick : STEPS.alone);
	const composed = composeBest(model, placer, bound, steps, 3);
	if (composed[0] && consider(fillingOf(placer, composed[0].runs, 'list scheduling'))) return done();
	if (effort <= 0) return done();
	const exact = exactFilling(model, iterationOf(model, best!), bound, effort * STEPS.exact);
	if (consider(exact.filling) || exact.complete) return done();
	const starts = [...composed.map(({ runs }) => runs), ...candidates.slice(0, 2).map(({ pieces }) => runsOf(model, pieces))];
	const improved = improve(model, placer, starts, bound, effort * STEPS.improve);
	consider(fillingOf(placer, improved.runs, 'local search'));
	return done();
}

function fillingOf(placer: Placer, runs: readonly Run[], method: string): Filling {
	const made = { pieces: [], transfers: [] };
	placer.begin(runs);
	for (let r = 0; r < runs.length; r++) if (placer.endOf(r) < 0) placer.place(r, made);
	return { method, ...made };
}
