/**
 * @file The exact division of one chain over the ranks of a linear pipeline, replicas included: branch and bound whose bounds come from a dynamic
 * program and whose leaves are simulated. Every division is either simulated or proven to be no better than one that was.
 */
import { completionBounds } from './completion.ts';

/** What a run of layers costs on so many devices; per micro-batch. */
export interface LinearRange {
	readonly forwardMs: number;
	readonly backwardInputMs: number;
	readonly backwardWeightMs: number;
}

export interface LinearProblem {
	readonly layers: number;
	readonly ranks: number;
	readonly devices: number;
	readonly microBatches: number;
	/** Devices a rank may have, ascending; those that divide a micro-batch. */
	readonly replicaChoices: readonly number[];
	/** Whether backwards are split, so that the stage before does not wait for the weights' part. */
	readonly split: boolean;
	/** Layers [from, to) on `replicas` devices. */
	range(from: number, to: number, replicas: number): LinearRange;
	/** After the last backward of that range, when its devices begin at `offset`: the sum of gradients and the optimiser, ms. */
	tailMs(from: number, to: number, offset: number, replicas: number): number;
	/** Whether it fits in the memory of rank `rank`. */
	fits(from: number, to: number, rank: number, replicas: number): boolean;
	/** The hop at the cut before layer `at`, between a rank of `replicas` devices from `offset` and the next rank of `next` devices; one way, ms. */
	hopMs(at: number, offset: number, replicas: number, next: number): number;
	/** The iteration of a division, ms: `bounds` are 0, where each further stage begins, and `layers`. Infinity when it does not fit. */
	simulate(bounds: readonly number[], replicas: readonly number[]): number;
	/** Divisions to look into before the best so far is taken. */
	readonly nodeLimit: number;
	/** Divisions that take this long or longer are of no interest. */
	readonly worthMs?: number;
}

export interface LinearAnswer {
	readonly bounds: readonly number[];
	readonly replicas: readonly number[];
	/** As simulated. */
	readonly ms: number;
	/** No division takes less. */
	readonly lowerBoundMs: number;
	/** True when no division is better than this one by more than rounding; false when the limit of nodes ended the search. */
	readonly proven: boolean;
}

/** A part of a division: the first `rank` ranks hold layers [0, at) on devices [0, offset). */
interface Node {
	readonly parent: Node | undefined;
	readonly at: number;
	readonly rank: number;
	readonly offset: number;
	readonly replicas: number;
	/** Forward of one micro-batch up to here, and its gradient's way back from here, hops included. */
	readonly downMs: number;
	readonly upMs: number;
	/** No division that continues this part takes less. */
	readonly boundMs: number;
}

const rounding = 1e-9;

/**
 * The division that the simulator finds fastest, or why there is none: `memory` when none fits, `slow` when none is faster than `worthMs`.
 *
 * Bound: rank s begins when a micro-batch has come down to it, works M times, and then either the last gradient goes up to rank 0 or its own tail
 * follows: T >= down_s + max(M work_s + tail_s, M (f + gradient)_s + up_s). Holds for every schedule here. The completion of a part is bounded by the
 * same over the ranks to come (`completionBounds`). Depth first, most promising child first, so that the first leaf is the formula's own optimum.
 */
export function exactLinear(problem: LinearProblem): LinearAnswer | 'memory' | 'slow' {
	const { layers, ranks, devices, replicaChoices, microBatches, split } = problem;
	const bounds = completionBounds(problem);
	const root: Node = {
		parent: undefined,
		at: 0,
		rank: 0,
		offset: 0,
		replicas: 0,
		downMs: 0,
		upMs: 0,
		boundMs: bounds.whole(0, 0, 0, 0, 0),
	};
	let best: { bounds: number[]; replicas: number[]; ms: number } | undefined;
	let worthMs = problem.worthMs ?? Number.POSITIVE_INFINITY;
	let nodes = 0;
	let complete = true;

	const children = (node: Node): Node[] => {
		const made: Node[] = [];
		const rest = ranks - node.rank - 1;
		for (const replicas of replicaChoices) {
			const offset = node.offset + replicas;
			if (rest === 0 ? offset !== devices : offset + rest > devices) continue;
			const hop = node.parent ? problem.hopMs(node.at, node.offset - node.replicas, node.replicas, replicas) : 0;
			const [down, up] = [node.downMs + hop, node.upMs + hop];
			for (let to = rest === 0 ? layers : node.at + 1; to <= layers - rest; to++) {
				if (!problem.fits(node.at, to, node.rank, replicas)) continue;
				const { forwardMs, backwardInputMs, backwardWeightMs } = problem.range(node.at, to, replicas);
				const gradientMs = split ? backwardInputMs : backwardInputMs + backwardWeightMs;
				const tailed = microBatches * (forwardMs + backwardInputMs + backwardWeightMs) + problem.tailMs(node.at, to, node.offset, replicas);
				const own = down + Math.max(tailed, microBatches * (forwardMs + gradientMs) + up);
				const downMs = down + forwardMs;
				const upMs = up + gradientMs;
				const boundMs = Math.max(node.boundMs, own, bounds.whole(to, node.rank + 1, offset, downMs, upMs));
				if (boundMs < worthMs * (1 - rounding))
					made.push({ parent: node, at: to, rank: node.rank + 1, offset, replicas, downMs, upMs, boundMs });
			}
		}
		return made.sort((a, b) => b.boundMs - a.boundMs);
	};

	const stack = root.boundMs < worthMs ? [root] : [];
	while (stack.length > 0) {
		const node = stack.pop()!;
		if (node.boundMs >= worthMs * (1 - rounding)) continue;
		if (node.rank === ranks) {
			const division = divisionOf(node);
			const ms = problem.simulate(division.bounds, division.replicas);
			if (ms < worthMs) {
				best = { ...division, ms };
				worthMs = ms;
			}
			continue;
		}
		if (++nodes > problem.nodeLimit) {
			complete = false;
			break;
		}
		for (const child of children(node)) stack.push(child);
	}
	if (!best) return root.boundMs === Number.POSITIVE_INFINITY ? 'memory' : 'slow';
	return { ...best, lowerBoundMs: complete ? best.ms : root.boundMs, proven: complete };
}

function divisionOf(leaf: Node): { bounds: number[]; replicas: number[] } {
	const bounds: number[] = [];
	const replicas: number[] = [];
	for (let node: Node | undefined = leaf; node; node = node.parent) {
		bounds.unshift(node.at);
		if (node.parent) replicas.unshift(node.replicas);
	}
	return { bounds, replicas };
}
