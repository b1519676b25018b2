/**
 * @file The simulator's end time alone, for many sets of costs under the same rows: the order in which actions can be computed depends on the rows only,
 * so it is found once.
 */
import type { Schedule } from '../schedules/types.ts';
import { simulatePipeline } from './simulate.ts';
import type { PipelineStage } from './types.ts';

/** Costs per stage, as in `PipelineStage`. */
export interface StageTimes {
	readonly forwardMs: Float64Array;
	readonly backwardInputMs: Float64Array;
	readonly backwardWeightMs: Float64Array;
	readonly hopForwardMs: Float64Array;
	readonly hopBackwardMs: Float64Array;
	readonly syncMs: Float64Array;
	readonly updateMs: Float64Array;
}

/** Times of `stages` stages, all 0. */
export function stageTimes(stages: number): StageTimes {
	const zeros = () => new Float64Array(stages);
	return {
		forwardMs: zeros(),
		backwardInputMs: zeros(),
		backwardWeightMs: zeros(),
		hopForwardMs: zeros(),
		hopBackwardMs: zeros(),
		syncMs: zeros(),
		updateMs: zeros(),
	};
}

const kinds = { F: 0, B: 1, I: 2, W: 3 } as const;

/**
 * A function from costs to the `endMs` of `simulatePipeline`, for a linear pipeline of one stage per rank. A few operations per action and nothing
 * allocated. Throws what `simulatePipeline` throws when the rows wait for each other.
 */
export function linearTimer(rows: Schedule): (times: StageTimes) => number {
	const ranks = rows.length;
	const micros = Math.max(0, ...rows.map((row) => row.reduce((n, { micro }) => Math.max(n, micro + 1), 0)));
	const order = computableOrder(rows);
	const free = new Float64Array(ranks);
	const lastBackward = new Float64Array(ranks);
	const downFree = new Float64Array(ranks);
	const upFree = new Float64Array(ranks);
	const inputAt = new Float64Array((ranks + 1) * micros);
	const gradAt = new Float64Array((ranks + 1) * micros);
	return (times) => {
		free.fill(0);
		downFree.fill(0);
		upFree.fill(0);
		lastBackward.fill(0);
		let end = 0;
		for (let i = 0; i < order.length; i += 3) {
			const stage = order[i]!;
			const kind = order[i + 1]!;
			const key = stage * micros + order[i + 2]!;
			let at = free[stage]!;
			if (kind === kinds.F) {
				// What stage 0 waits for stays 0, as does the gradient after the last stage.
				if (stage > 0) at = Math.max(at, inputAt[key]!);
				at += times.forwardMs[stage]!;
				const hop = times.hopForwardMs[stage]!;
				const handed = hop === 0 ? at : Math.max(at, downFree[stage]!) + hop;
				if (hop > 0) downFree[stage] = handed;
				if (stage + 1 < ranks) inputAt[key + micros] = handed;
			} else if (kind === kinds.W) {
				at += times.backwardWeightMs[stage]!;
				lastBackward[stage] = at;
			} else {
				if (stage + 1 < ranks) at = Math.max(at, gradAt[key]!);
				at += times.backwardInputMs[stage]! + (kind === kinds.B ? times.backwardWeightMs[stage]! : 0);
				if (kind === kinds.B) lastBackward[stage] = at;
				if (stage > 0) {
					const hop = times.hopBackwardMs[stage - 1]!;
					const handed = hop === 0 ? at : Math.max(at, upFree[stage]!) + hop;
					if (hop > 0) upFree[stage] = handed;
					gradAt[key - micros] = handed;
				}
			}
			free[stage] = at;
			if (at > end) end = at;
		}
		for (let stage = 0; stage < ranks; stage++) {
			const summed = lastBackward[stage]! + times.syncMs[stage]!;
			const update = times.updateMs[stage]!;
			end = Math.max(end, update > 0 ? Math.max(summed, free[stage]!) + update : summed, downFree[stage]!, upFree[stage]!);
		}
		return end;
	};
}

/** Stage, kind and micro-batch of every action, each after what it needs. */
function computableOrder(rows: Schedule): Int32Array {
	const stage = (rank: number): PipelineStage => ({
		rank,
		...(rank + 1 < rows.length ? { next: rank + 1 } : {}),
		forwardMs: 1,
		backwardInputMs: 1,
		backwardWeightMs: 1,
		hopForwardMs: 0,
		hopBackwardMs: 0,
		savedBytes: 0,
		syncMs: 0,
		updateMs: 0,
		staticBytes: 0,
	});
	const { spans } = simulatePipeline({ ranks: rows.length, stages: rows.map((_, rank) => stage(rank)), rows });
	const all = spans.flat().sort((a, b) => a.start - b.start || a.end - b.end);
	return Int32Array.from(all.flatMap(({ stage: s, kind, micro }) => [s, kinds[kind as 'F'], micro]));
}
