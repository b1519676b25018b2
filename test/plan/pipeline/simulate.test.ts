import fc from 'fast-check';
import { expect, test } from 'vitest';
import { simulatePipeline } from '../../../src/plan/pipeline/simulate.ts';
import type { PipelineStage } from '../../../src/plan/pipeline/types.ts';
import { schedules } from '../../../src/plan/schedules/index.ts';
import type { WarmUp } from '../../../src/plan/schedules/types.ts';

function chain(stages: number, over: Partial<PipelineStage> = {}): PipelineStage[] {
	return Array.from({ length: stages }, (_, rank) => ({
		rank,
		...(rank + 1 < stages ? { next: rank + 1 } : {}),
		forwardMs: 1,
		backwardInputMs: 1,
		backwardWeightMs: 1,
		hopForwardMs: 0,
		hopBackwardMs: 0,
		savedBytes: 1,
		syncMs: 0,
		updateMs: 0,
		staticBytes: 0,
		...over,
	}));
}

function run(name: string, stages: number, microBatches: number, over: Partial<PipelineStage> = {}, warmup: WarmUp = 'usual') {
	return simulatePipeline({ ranks: stages, stages: chain(stages, over), rows: schedules[name]!({ stages, microBatches, warmup }) });
}

// facts of arXiv 2405.01248's setting: forward 1, backward 2, a hop between.
test.each([
	[4, 4, 1, 31, 27],
	[4, 8, 1, 49, 39],
	[8, 16, 0.25, 79, 72.5],
	[8, 16, 1, 109, 83],
])(
	'1F1B of %i stages, %i micro-batches, hops of %f: %f with the usual warm-up, %f with the deep one',
	(stages, micros, hop, usual, deep) => {
		const hops = { hopForwardMs: hop, hopBackwardMs: hop };
		expect(run('1f1b', stages, micros, hops).endMs).toBe(usual);
		expect(run('1f1b', stages, micros, hops, 'deep').endMs).toBe(deep);
	},
);

test('balanced GPipe and 1F1B without hops take (M + S - 1)(f + b)', () => {
	fc.assert(
		fc.property(fc.integer({ min: 1, max: 6 }), fc.integer({ min: 1, max: 12 }), fc.integer({ min: 1, max: 9 }), (stages, micros, f) => {
			const times = { forwardMs: f, backwardInputMs: 2, backwardWeightMs: 3 };
			const ideal = (micros + stages - 1) * (f + 5);
			expect(run('gpipe', stages, micros, times).endMs).toBe(ideal);
			expect(run('1f1b', stages, micros, times).endMs).toBe(ideal);
		}),
	);
});

test('GPipe holds every micro-batch, 1F1B one more than its warm-up', () => {
	expect(run('gpipe', 4, 8, { staticBytes: 10 }).peakBytes).toEqual([18, 18, 18, 18]);
	expect(run('1f1b', 4, 8, { staticBytes: 10 }).peakBytes).toEqual([14, 13, 12, 11]);
});

test('messages of one direction queue on their link', () => {
	const { endMs, transfers } = run('gpipe', 2, 3, { hopForwardMs: 10, hopBackwardMs: 0 });
	expect(transfers.map((t) => [t.start, t.end])).toEqual([
		[1, 11],
		[11, 21],
		[21, 31],
	]);
	expect(endMs).toBe(31 + 1 + 3 * 2 + 2);
});

test('sums of gradients start after the last backward and hide behind earlier stages; updates follow', () => {
	const { endMs, transfers, spans } = run('1f1b', 2, 2, { syncMs: 2, updateMs: 0.5 });
	// Last backward of stage 1 ends at 7, of stage 0 at 9.
	expect(transfers.filter((t) => t.kind === 'allReduce').map((t) => [t.stage, t.start, t.end])).toEqual([
		[1, 7, 9],
		[0, 9, 11],
	]);
	expect(spans[1]!.at(-1)).toMatchObject({ kind: 'update', start: 9, end: 9.5 });
	expect(endMs).toBe(11.5);
});

test('a split backward: I hands the gradient on, W frees what was saved', () => {
	const stages = chain(2);
	const rows = [
		['F', 'I', 'W'],
		['F', 'I', 'W'],
	].map((kinds, stage) => kinds.map((kind) => ({ stage, kind: kind as 'F', micro: 0 })));
	const { spans, endMs } = simulatePipeline({ ranks: 2, stages, rows });
	expect(spans[0]!.map((s) => [s.kind, s.start])).toEqual([
		['F', 0],
		['I', 3],
		['W', 4],
	]);
	expect(endMs).toBe(5);
});

test('self-conditioning: a sweep of forward-only stages feeds the real ones on the same ranks', () => {
	const sweep = chain(2, { forwardOnly: true, savedBytes: 5 }).map((s, i) => ({
		...s,
		next: i + 1,
		...(i === 1 ? { hopForwardMs: 4 } : {}),
	}));
	const real = chain(2).map((s) => (s.next === undefined ? s : { ...s, next: 3 }));
	const rows = [
		[
			{ stage: 0, kind: 'F', micro: 0 },
			{ stage: 2, kind: 'F', micro: 0 },
			{ stage: 2, kind: 'B', micro: 0 },
		],
		[
			{ stage: 1, kind: 'F', micro: 0 },
			{ stage: 3, kind: 'F', micro: 0 },
			{ stage: 3, kind: 'B', micro: 0 },
		],
	] as const;
	const { endMs, peakBytes } = simulatePipeline({ ranks: 2, stages: [...sweep, ...real], rows });
	expect(endMs).toBe(2 + 4 + 2 + 4);
	expect(peakBytes).toEqual([1, 1]);
});

test('rows that wait for each other are named', () => {
	const rows = [
		[
			{ stage: 0, kind: 'B', micro: 0 },
			{ stage: 0, kind: 'F', micro: 0 },
		],
		[{ stage: 1, kind: 'F', micro: 0 }],
	] as const;
	expect(() => simulatePipeline({ ranks: 2, stages: chain(2), rows })).toThrow(/rank 0 at 0B0; rank 1 at 1F0/);
	expect(() => simulatePipeline({ ranks: 2, stages: chain(2), rows: [[{ stage: 7, kind: 'F', micro: 0 }]] })).toThrow(
		/7F0: an action of no stage/,
	);
});
