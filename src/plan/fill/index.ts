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

/** Steps of the placer for compositions at no effort, and for compositions and local search at effort 1. */
const STEPS = { quick: 4e3, compose: 1e5, improve: 4e5, exact: 3e5 };

/**
 * Where and when every layer of every frozen component runs on every sample of the batch: inside idle time as far as that goes, else after the flush.
 * The best of the greedy of DiffusionPipe, shares of the batch per device, compositions by list scheduling and a local search over all of these; never
 * worse than the greedy, and nothing more is tried once `lowerBoundMs` is reached. Deterministic. Throws an input error for a problem without sense, and
 * one naming component and layer when a layer's weights fit nowhere.
 */
export function fillBubbles(problem: FillProblem, { effort = 1 }: FillOptions = {}): FillResult {
	const model = fillModel(problem);
	if (model.blocks.length === 0) return fillResult(model, { method: 'nothing to fill in', pieces: [], transfers: [] }, problem.endMs);
	const least = leastWork(model);
	let bound = lowerBound(model, least);
	const candidates: Filling[] = [];
	let best: Filling | undefined;
	/** Keeps the better one, at a tie the one without moves, else the earlier; true when the bound is reached. */
	const consider = (filling: Filling | undefined): boolean => {
		if (!filling) return false;
		candidates.push(filling);
		const [ours, theirs] = [best ? iterationOf(model, best) : Number.POSITIVE_INFINITY, iterationOf(model, filling)];
		if (theirs < ours - model.eps) best = filling;
		return iterationOf(model, best!) <= bound + model.eps;
	};
	const done = (): FillResult => fillResult(model, best!, bound);
	if (consider(sharesFilling(model, effort > 0 ? 500 : 60, effort > 0 ? 400 : 40))) return done();
	bound = Math.max(bound, chainBound(model, least));
	if (consider(greedyFilling(model))) return done();
	const placer = placerOf(model);
	const composed = composeBest(model, placer, bound, effort > 0 ? effort * STEPS.compose : STEPS.quick, 3);
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
