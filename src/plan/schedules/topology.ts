/** @file Which rank holds which stage: chains down the ranks, several times round them, folded, in both directions, and with a sweep ahead. */
import type { StagePlace, Topology } from './types.ts';

/** `chunks` stages per rank, dealt round the ranks: stage i on rank i mod R, one chain. With one chunk, stage i is on rank i. */
export function linear(ranks: number, chunks = 1): Topology {
	return chain(
		ranks,
		Array.from({ length: ranks * chunks }, (_, stage) => stage % ranks),
	);
}

/** Two stages per rank, the chain folded in the middle: stage i and stage 2R-1-i on rank i. */
export function folded(ranks: number): Topology {
	return chain(
		ranks,
		Array.from({ length: 2 * ranks }, (_, stage) => Math.min(stage, 2 * ranks - 1 - stage)),
	);
}

/** Several chains of R stages: chain c is stages cR .. cR+R-1, down the ranks where c is even, up them where it is odd (stage cR+i on rank R-1-i). */
export function bothWays(ranks: number, chains = 2): Topology {
	const stages = Array.from({ length: chains }, (_, c) =>
		linear(ranks).stages.map(
			({ next }, i): StagePlace => ({ rank: c % 2 === 0 ? i : ranks - 1 - i, ...(next === undefined ? {} : { next: c * ranks + next }) }),
		),
	);
	return { ranks, stages: stages.flat() };
}

function chain(ranks: number, rankOf: readonly number[]): Topology {
	return { ranks, stages: rankOf.map((rank, i) => (i + 1 < rankOf.length ? { rank, next: i + 1 } : { rank })) };
}

/** The stages of each chain from first to last; a sweep ahead and what it feeds are one chain. */
export function chainsOf(stages: readonly StagePlace[]): number[][] {
	const fed = new Set(stages.map((stage) => stage.next));
	return stages.flatMap((_, first) => {
		if (fed.has(first)) return [];
		const found: number[] = [];
		for (let stage: number | undefined = first; stage !== undefined; stage = stages[stage]!.next) found.push(stage);
		return [found];
	});
}

/** Which stage feeds each stage, -1 for the first of a chain. */
export function previousOf(stages: readonly StagePlace[]): Int32Array {
	const previous = new Int32Array(stages.length).fill(-1);
	for (const [i, { next }] of stages.entries()) if (next !== undefined) previous[next] = i;
	return previous;
}
