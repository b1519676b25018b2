/** @file Filling problems from simulated pipelines, for tests and benches. */
import { randomStream } from '../../../src/core/random.ts';
import type { FillProblem, IdleInterval } from '../../../src/plan/fill/types.ts';
import { simulatePipeline } from '../../../src/plan/pipeline/simulate.ts';
import { schedules } from '../../../src/plan/schedules/index.ts';

export interface PipelineCase {
	readonly stages: number;
	readonly microBatches: number;
	/** Devices per stage. */
	readonly copies: number;
	readonly batch: number;
	/** By component. */
	readonly layers: readonly number[];
	/** Time of the frozen work over that of the forward and backward. */
	readonly rho: number;
}

/** What `copies` balanced 1F1B pipelines leave idle, and frozen components to fill in, times drawn at random; the shape as well where `over` has none. */
export function pipelineCase(seed: number, index: number, over: Partial<PipelineCase> = {}): FillProblem {
	const stream = randomStream(seed, 'pipeline cases');
	let drawn = 0;
	const draw = (low: number, high: number): number => low + Math.floor(stream.uniform(index, drawn++) * (high - low + 1));
	const pick = <T>(values: readonly T[]): T => values[draw(0, values.length - 1)]!;
	const stages = pick([2, 3, 4, 4, 8]);
	const microBatches = stages * pick([1, 2, 2, 3]);
	const layers = Array.from({ length: draw(1, 3) }, () => pick([3, 6, 12, 24]));
	const rho = ((stages - 1) / microBatches) * pick([0.7, 0.85, 0.95, 1.05, 1.3, 2]);
	const shape = { stages, microBatches, copies: pick([1, 1, 2]), batch: pick([8, 16, 24, 32, 64]), layers, rho, ...over };
	const [forwardMs, hopMs, overhead, bytesPerMs] = [pick([2, 5, 10]), pick([0, 0.3, 1]), pick([0, 0.4, 1.2]), pick([1e6, 1e7, 1e8])];
	const batchSizes = pick([
		[1, 2, 4, 8, 16, 32, 64],
		[4, 8, 16, 32],
		[1, 4, 16],
	]);
	const { idle, endMs } = idleOf(shape.stages, shape.microBatches, forwardMs, hopMs);
	const all = shape.layers.reduce((sum, count) => sum + count, 0);
	const total = shape.rho * shape.stages * shape.microBatches * 3 * forwardMs * shape.copies;
	const components = shape.layers.map((count, c) => ({
		name: `c${c}`,
		after: shape.layers.slice(0, c).flatMap((_, o) => (draw(0, 2) === 0 ? [`c${o}`] : [])),
		layers: Array.from({ length: count }, (_, l) => {
			const each = ((0.4 + 1.2 * stream.uniform(index, drawn++)) * total) / all / shape.batch;
			return { name: `c${c}.${l}`, forwardMs: batchSizes.map((n) => each * (n + overhead)), outputBytes: 1e6, paramBytes: 1e6 };
		}),
	}));
	const devices = idle.flatMap((own) => Array.from({ length: shape.copies }, () => own));
	return {
		idle: devices,
		endMs,
		batch: shape.batch,
		batchSizes,
		components,
		transferMs: (bytes, from, to) => (from === to ? 0 : 0.02 + bytes / bytesPerMs),
		...(draw(0, 4) === 0 ? { freeBytes: devices.map(() => Math.ceil((all * draw(3, 12)) / 8) * 1e6) } : {}),
	};
}

function idleOf(stages: number, microBatches: number, forwardMs: number, hopMs: number): { idle: IdleInterval[][]; endMs: number } {
	const chain = Array.from({ length: stages }, (_, rank) => ({
		rank,
		...(rank + 1 < stages ? { next: rank + 1 } : {}),
		forwardMs,
		backwardInputMs: forwardMs,
		backwardWeightMs: forwardMs,
		hopForwardMs: hopMs,
		hopBackwardMs: hopMs,
		savedBytes: 0,
		syncMs: 0,
		updateMs: 0,
		staticBytes: 0,
	}));
	const rows = schedules['1f1b']!({ stages, microBatches, warmup: 'usual' });
	const { spans, endMs } = simulatePipeline({ ranks: stages, stages: chain, rows });
	const idle = spans.map((row) => {
		const own: IdleInterval[] = [];
		let at = 0;
		for (const { start, end } of [...row, { start: endMs, end: endMs }]) {
			if (start > at + 1e-9) own.push({ start: at, end: start });
			at = end;
		}
		return own;
	});
	return { idle, endMs };
}
