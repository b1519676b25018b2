/** @file How little time the layers not yet placed can take: dynamic programs over (first layer, rank, first device), from the last rank back. */
import type { LinearProblem } from './exact.ts';

export interface CompletionBounds {
	/**
	 * A lower bound, ms, on the iteration when layers [at, layers) go to the ranks from `rank` on devices from `offset`, a micro-batch takes `downMs` to
	 * come there and its gradient `upMs` to go back; Infinity when they do not fit.
	 */
	whole(at: number, rank: number, offset: number, downMs: number, upMs: number): number;
}

/**
 * Both ends of the bound are additive in what lies before, so one number per state is exact for each: the way through and back (down + up + ...), and
 * the way down with the tail. O(layers^2 ranks devices replicas).
 */
export function completionBounds(problem: Omit<LinearProblem, 'simulate' | 'nodeLimit' | 'worthMs'>): CompletionBounds {
	const { layers, ranks, devices, microBatches, replicaChoices, split } = problem;
	const width = devices + 1;
	const index = (at: number, rank: number, offset: number) => (rank * (layers + 1) + at) * width + offset;
	const through = new Float64Array((ranks + 1) * (layers + 1) * width).fill(Number.POSITIVE_INFINITY);
	const tailed = through.slice();
	through[index(layers, ranks, devices)] = 0;
	tailed[index(layers, ranks, devices)] = 0;
	for (let rank = ranks - 1; rank >= 0; rank--) {
		const rest = ranks - rank - 1;
		const hops = cheapestHops(problem, rest > 0);
		// Ranks before this one hold a layer and a device each at least, and all of them when this is the first.
		for (let offset = rank; offset <= (rank === 0 ? 0 : devices - rest - 1); offset++) {
			for (const replicas of replicaChoices) {
				const next = offset + replicas;
				if (rest === 0 ? next !== devices : next + rest > devices) continue;
				for (let at = rank === 0 ? 0 : layers - rest - 1; at >= rank; at--) {
					const state = index(at, rank, offset);
					for (let to = rest === 0 ? layers : at + 1; to <= layers - rest; to++) {
						const after = index(to, rank + 1, next);
						if (through[after] === Number.POSITIVE_INFINITY) continue;
						if (!problem.fits(at, to, rank, replicas)) continue;
						const { forwardMs, backwardInputMs, backwardWeightMs } = problem.range(at, to, replicas);
						const both = forwardMs + backwardInputMs + (split ? 0 : backwardWeightMs);
						const work = microBatches * (forwardMs + backwardInputMs + backwardWeightMs) + problem.tailMs(at, to, offset, replicas);
						const hop = rest === 0 ? 0 : hops(to, offset, replicas);
						through[state] = Math.min(through[state]!, Math.max(microBatches * both, both + 2 * hop + through[after]!));
						tailed[state] = Math.min(tailed[state]!, Math.max(work, forwardMs + hop + tailed[after]!));
					}
				}
			}
		}
	}
	return {
		whole: (at, rank, offset, downMs, upMs) => {
			const state = index(at, rank, offset);
			return Math.max(downMs + upMs + through[state]!, downMs + tailed[state]!);
		},
	};
}

/** The cheapest hop at a cut over the numbers of devices the next rank may have. */
function cheapestHops(
	{ layers, devices, replicaChoices, hopMs }: Pick<LinearProblem, 'layers' | 'devices' | 'replicaChoices' | 'hopMs'>,
	needed: boolean,
): (at: number, offset: number, replicas: number) => number {
	if (!needed) return () => 0;
	const width = devices + 1;
	const known = new Float64Array((layers + 1) * width * width).fill(Number.NaN);
	return (at, offset, replicas) => {
		const key = (at * width + offset) * width + replicas;
		if (Number.isNaN(known[key])) {
			let least = Number.POSITIVE_INFINITY;
			for (const next of replicaChoices)
				if (offset + replicas + next <= devices) least = Math.min(least, hopMs(at, offset, replicas, next));
			known[key] = least;
		}
		return known[key]!;
	};
}
