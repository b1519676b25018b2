/** @file Local search over the runs of a filling: simulated annealing on small changes, until the lower bound is met or the work allowed is done. */
import type { FillModel } from './model.ts';
import { changes } from './mutate.ts';
import type { Placer } from './placer.ts';
import { below, drawsOf } from './random.ts';
import type { Run } from './runs.ts';

export interface Improved {
	readonly runs: readonly Run[];
	readonly iterationMs: number;
}

/**
 * The best filling found from `starts` within `steps` of the placer, which are shared evenly by the starts and a last round from the best. Worse fillings
 * are accepted with the probability of Metropolis et al. (1953), at a temperature that falls to a hundredth, and as many changes as steps are tried, since not
 * every one can be made. Deterministic.
 */
export function improve(model: FillModel, placer: Placer, starts: readonly (readonly Run[])[], bound: number, steps: number): Improved {
	const draw = drawsOf('filling, local search');
	const begin = placer.steps();
	let best: Improved = { runs: starts[0]!, iterationMs: Number.POSITIVE_INFINITY };
	const anneal = (from: readonly Run[], until: number): void => {
		let current = from;
		let now = placeAll(placer, current);
		let [ms, order] = [now.iterationMs, lateFirst(placer, current, now.iterationMs)];
		const note = (): void => {
			if (ms < best.iterationMs - model.eps) best = { runs: current, iterationMs: ms };
		};
		note();
		const start = placer.steps();
		const hot = Math.max(ms - bound, 1e-3 * bound) / 10;
		for (let tries = 0; placer.steps() < until && best.iterationMs > bound + model.eps && tries < steps; tries++) {
			const change = changes[below(draw, changes.length)]!;
			const at = order.length > 0 && draw() < 0.5 ? order[below(draw, order.length)]! : below(draw, current.length);
			const changed = change(model, current, at, draw);
			if (!changed) continue;
			const then = placeAll(placer, changed);
			const cooled = hot * 0.01 ** ((placer.steps() - start) / (until - start));
			if (then.cost > now.cost && draw() >= Math.exp((now.cost - then.cost) / cooled)) continue;
			[current, now, ms] = [changed, then, then.iterationMs];
			order = lateFirst(placer, current, ms);
			note();
		}
	};
	for (const [i, start] of starts.entries()) anneal(start, begin + (steps * (i + 1)) / (starts.length + 1));
	anneal(best.runs, begin + steps);
	return best;
}

/** Places all runs in order; the cost is the iteration and, less, the mean time after the flush, which tells apart what the last device hides. */
function placeAll(placer: Placer, runs: readonly Run[]): { iterationMs: number; cost: number } {
	placer.begin(runs);
	for (let r = 0; r < runs.length; r++) if (placer.endOf(r) < 0) placer.place(r);
	const iterationMs = placer.iterationMs();
	return { iterationMs, cost: iterationMs + 0.3 * placer.overflowMs() };
}

/** The runs that end last. */
function lateFirst(placer: Placer, runs: readonly Run[], iterationMs: number): number[] {
	return [...runs.keys()].filter((r) => placer.endOf(r) >= iterationMs * (1 - 1e-9));
}
