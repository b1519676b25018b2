import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { simulatePipeline } from '../../../src/plan/pipeline/simulate.ts';
import { lowerBound } from '../../../src/plan/schedules/best.ts';
import { endOf, paceOf, peaksOf } from '../../../src/plan/schedules/clock.ts';
import { placeSchedule, placeStages, scheduleKinds } from '../../../src/plan/schedules/index.ts';
import { oneFOneB } from '../../../src/plan/schedules/one-f-one-b.ts';
import { formatSchedule, formatScheduleGrid, parseSchedule } from '../../../src/plan/schedules/text.ts';
import type { PlacedSchedule, PlaceOptions, StageCosts, WarmUp } from '../../../src/plan/schedules/types.ts';
import { validatePlaced } from '../../../src/plan/schedules/validate.ts';
import { zeroBubbleH1 } from '../../../src/plan/schedules/zero-bubble.ts';
import { costsOf, request } from './requests.ts';

const unit: StageCosts = { forwardMs: 1, backwardInputMs: 1, backwardWeightMs: 1, hopForwardMs: 0, hopBackwardMs: 0, savedBytes: 1 };

function simulate(placed: PlacedSchedule, costs: readonly StageCosts[] = placed.stages.map(() => unit)) {
	return simulatePipeline({
		...placed,
		stages: placed.stages.map((place, i) => ({ ...place, ...costs[i]!, syncMs: 0, updateMs: 0, staticBytes: 0 })),
	});
}

const ranks = fc.integer({ min: 1, max: 6 });
const microBatches = fc.integer({ min: 1, max: 12 });
const warmups = ['usual', 'deep'] as const;
const warmup = fc.constantFrom<WarmUp>(...warmups);
const ms = fc.integer({ min: 1, max: 9 });

test('every schedule is valid, runs to its end, and reads back as it prints', () => {
	fc.assert(
		fc.property(request, ({ name, options }) => {
			const placed = validatePlaced(placeSchedule(name, options), options.microBatches);
			expect(placed.stages).toEqual(placeStages(name, options).stages);
			expect(parseSchedule(formatSchedule(placed.rows))).toEqual(placed.rows);
			const { endMs, peakBytes } = simulate(placed, options.costs?.stages);
			const pace = paceOf(placed, options.microBatches, options.costs);
			expect(endOf(pace, placed.rows)).toBeCloseTo(endMs, 6);
			if (options.costs) expect(peaksOf(pace, placed.rows)).toEqual(peakBytes);
			expect(endMs).toBeGreaterThanOrEqual(lowerBound(pace, name === 'zero-bubble') * (1 - 1e-9));
		}),
		{ numRuns: 300 },
	);
});

describe('what ranks save at most', () => {
	const peaks = (name: string, options: PlaceOptions) => simulate(placeSchedule(name, options)).peakBytes;

	test('zero-bubble: as many micro-batches as the first stage of 1F1B, twice that with the deep warm-up', () => {
		fc.assert(
			fc.property(ranks, microBatches, (ranks, microBatches) => {
				for (const peak of peaks('zero-bubble', { ranks, microBatches })) expect(peak).toBeLessThanOrEqual(ranks);
				for (const peak of peaks('zero-bubble', { ranks, microBatches, warmup: 'deep' })) expect(peak).toBeLessThanOrEqual(2 * ranks);
			}),
		);
	});

	test('folded: 2R+1 micro-batches of one stage, for 1F1B and zero-bubble alike', () => {
		fc.assert(
			fc.property(ranks, microBatches, fc.constantFrom('1f1b', 'zero-bubble'), (ranks, microBatches, name) => {
				for (const peak of peaks(name, { ranks, microBatches, placement: 'folded' })) expect(peak).toBeLessThanOrEqual(2 * ranks + 1);
			}),
		);
	});

	test('bidirectional: R+1, twice that with the deep warm-up', () => {
		fc.assert(
			fc.property(ranks, microBatches, (ranks, microBatches) => {
				for (const [i, warmup] of warmups.entries()) {
					for (const peak of peaks('bidirectional', { ranks, microBatches, backbones: 2, warmup })) {
						expect(peak).toBeLessThanOrEqual((i + 1) * (ranks + 1));
					}
				}
			}),
		);
	});

	test('a sweep ahead saves nothing', () => {
		expect(peaks('1f1b', { ranks: 3, microBatches: 6, selfConditioning: true })).toEqual([3, 2, 1]);
	});

	test('a limit is kept down to one micro-batch of everything a rank holds, and refused below', () => {
		fc.assert(
			fc.property(request, fc.double({ min: 1, max: 4, noNaN: true }), ({ name, options }, scale) => {
				fc.pre((name !== 'gpipe' && options.placement === 'folded') || name === 'zero-bubble' || name === 'bidirectional');
				const { stages } = placeStages(name, options);
				const costs = options.costs?.stages ?? costsOf(name, options, () => unit);
				const all = new Array<number>(options.ranks).fill(0);
				for (const [i, { rank }] of stages.entries()) all[rank]! += costs[i]!.savedBytes;
				const limitBytes = all.map((bytes) => bytes * scale);
				const placed = validatePlaced(placeSchedule(name, { ...options, costs: { stages: costs, limitBytes } }), options.microBatches);
				for (const [rank, peak] of simulate(placed, costs).peakBytes.entries())
					expect(peak).toBeLessThanOrEqual(limitBytes[rank]! * (1 + 1e-6));
				const tooLittle = { ...options, costs: { stages: costs, limitBytes: all.map((bytes) => bytes - 1) } };
				expect(() => placeSchedule(name, tooLittle)).toThrow(`schedule ${name}: rank 0 cannot save one micro-batch`);
			}),
		);
	});
});

describe('interleaved 1F1B', () => {
	test('runs in the order of ScheduleInterleaved1F1B', () => {
		const { rows, stages } = placeSchedule('interleaved-1f1b', { ranks: 4, microBatches: 8, chunks: 2 });
		expect(stages.map(({ rank }) => rank)).toEqual([0, 1, 2, 3, 0, 1, 2, 3]);
		// What PyTorch 2.13 prints for the same numbers.
		expect(formatSchedule(rows)).toMatchInlineSnapshot(`
			"0F0,0F1,0F2,0F3,4F0,4F1,4F2,4F3,0F4,0F5,0F6,4B0,0F7,4B1,4F4,4B2,4F5,4B3,4F6,0B0,4F7,0B1,0B2,0B3,4B4,4B5,4B6,4B7,0B4,0B5,0B6,0B7
			1F0,1F1,1F2,1F3,5F0,5F1,5F2,5F3,1F4,5B0,1F5,5B1,1F6,5B2,1F7,5B3,5F4,1B0,5F5,1B1,5F6,1B2,5F7,1B3,5B4,5B5,5B6,5B7,1B4,1B5,1B6,1B7
			2F0,2F1,2F2,2F3,6F0,6F1,6F2,6B0,6F3,6B1,2F4,6B2,2F5,6B3,2F6,2B0,2F7,2B1,6F4,2B2,6F5,2B3,6F6,6B4,6F7,6B5,6B6,6B7,2B4,2B5,2B6,2B7
			3F0,3F1,3F2,3F3,7F0,7B0,7F1,7B1,7F2,7B2,7F3,7B3,3F4,3B0,3F5,3B1,3F6,3B2,3F7,3B3,7F4,7B4,7F5,7B5,7F6,7B6,7F7,7B7,3B4,3B5,3B6,3B7
			"
		`);
	});

	test('fills in stages of a fraction of a rank: (M chunks + R - 1)(f + b) of one stage', () => {
		fc.assert(
			fc.property(ranks, fc.integer({ min: 1, max: 3 }), fc.integer({ min: 2, max: 3 }), (ranks, rounds, chunks) => {
				const microBatches = ranks * rounds;
				const placed = placeSchedule('interleaved-1f1b', { ranks, microBatches, chunks });
				expect(simulate(placed).endMs).toBe((microBatches * chunks + ranks - 1) * 3);
			}),
		);
	});

	test('micro-batches that do not go round are refused', () => {
		expect(() => placeSchedule('interleaved-1f1b', { ranks: 4, microBatches: 6 })).toThrow(
			'schedule interleaved-1f1b: micro-batches do not go round the ranks\n  expected: a multiple of 4 ranks\n  found: 6 micro-batches',
		);
		expect(() => placeSchedule('interleaved-1f1b', { ranks: 4, microBatches: 8, chunks: 1 })).toThrow('try: 1f1b');
	});
});

describe('zero bubble', () => {
	test('ZB-H1 puts off the W of stage s by s micro-batches', () => {
		expect(formatSchedule(zeroBubbleH1({ stages: 3, microBatches: 4 }))).toBe(
			'0F0,0F1,0F2,0I0,0W0,0F3,0I1,0W1,0I2,0W2,0I3,0W3\n1F0,1F1,1I0,1F2,1I1,1W0,1F3,1I2,1W1,1I3,1W2,1W3\n2F0,2I0,2F1,2I1,2F2,2I2,2W0,2F3,2I3,2W1,2W2,2W3\n',
		);
	});

	test("equal stages, W no more than F and I: the paper's (S-1)(F + I - W), no more when the list scheduler tries", () => {
		fc.assert(
			fc.property(ranks, fc.integer({ min: 0, max: 6 }), ms, ms, ms, (ranks, more, f, i, part) => {
				const w = Math.min(part, f, i);
				const microBatches = ranks + more;
				const options = { ranks, microBatches };
				const costs = {
					stages: costsOf('zero-bubble', options, () => ({ ...unit, forwardMs: f, backwardInputMs: i, backwardWeightMs: w })),
				};
				const pace = paceOf(placeStages('zero-bubble', options), microBatches, costs);
				const bubble = (rows: PlacedSchedule['rows']) => endOf(pace, rows) - microBatches * (f + i + w);
				expect(bubble(zeroBubbleH1({ stages: ranks, microBatches }))).toBe((ranks - 1) * (f + i - w));
				expect(bubble(placeSchedule('zero-bubble', { ...options, costs }).rows)).toBeLessThanOrEqual((ranks - 1) * (f + i - w));
			}),
		);
	});

	test('with twice the memory no rank waits once it has begun', () => {
		for (const [ranks, microBatches] of [
			[2, 4],
			[4, 8],
			[8, 16],
		] as const) {
			const options: PlaceOptions = { ranks, microBatches, warmup: 'deep' };
			const stages = costsOf('zero-bubble', options, () => ({ ...unit, backwardInputMs: 2 }));
			const placed = placeSchedule('zero-bubble', { ...options, costs: { stages } });
			expect(simulate(placed, stages).endMs).toBe(microBatches * 4 + (ranks - 1));
		}
	});

	test('never later than ZB-H1 or 1F1B, whatever the costs', () => {
		fc.assert(
			fc.property(request, warmup, ({ options }, warmup) => {
				const { ranks, microBatches } = options;
				fc.pre(options.costs !== undefined && options.costs.stages.length >= ranks);
				const plain: PlaceOptions = { ranks, microBatches, warmup };
				const costs = { stages: costsOf('zero-bubble', plain, (stage) => options.costs!.stages[stage]!) };
				const placed = placeSchedule('zero-bubble', { ...plain, costs });
				const pace = paceOf(placed, microBatches, costs);
				const end = endOf(pace, placed.rows) * (1 - 1e-9);
				expect(end).toBeLessThanOrEqual(endOf(pace, zeroBubbleH1({ stages: ranks, microBatches })));
				expect(end).toBeLessThanOrEqual(endOf(pace, oneFOneB({ stages: ranks, microBatches, warmup })));
			}),
		);
	});
});

describe('folded', () => {
	test('stage i and stage 2R-1-i are on rank i', () => {
		expect(placeStages('gpipe', { ranks: 3, microBatches: 1, placement: 'folded' }).stages).toEqual([
			{ rank: 0, next: 1 },
			{ rank: 1, next: 2 },
			{ rank: 2, next: 3 },
			{ rank: 2, next: 4 },
			{ rank: 1, next: 5 },
			{ rank: 0 },
		]);
	});

	test('gpipe runs all forwards of a rank first, 1F1B in turn, zero-bubble as soon as it can', () => {
		const grid = (name: string) => {
			const placed = placeSchedule(name, { ranks: 2, microBatches: 2, placement: 'folded' });
			return formatScheduleGrid(placed.rows, placed.stages);
		};
		expect(['gpipe', '1f1b', 'zero-bubble'].map(grid).join('\n')).toMatchInlineSnapshot(`
			"slot   0   1   2   3   4   5   6   7   8   9   10  11
			rank 0 0F0 0F1     3F0     3F1 3B0 3B1     0B0     0B1
			rank 1     1F0 2F0 1F1 2F1         2B0 1B0 2B1 1B1

			slot   0   1   2   3   4   5   6   7   8   9
			rank 0 0F0 0F1     3F0 3B0 3F1 3B1 0B0     0B1
			rank 1     1F0 2F0 1F1 2F1 2B0 1B0 2B1 1B1

			slot   0   1   2   3   4   5   6   7   8   9   10  11  12
			rank 0 0F0 0F1     3F0 3I0 3F1 3I1 0I0 0W0 0I1 0W1 3W0 3W1
			rank 1     1F0 2F0 1F1 2F1 2I0 1I0 2I1 1I1 1W0 1W1 2W0 2W1
			"
		`);
	});

	test('half the bubble of a linear pipeline of the same ranks, where memory allows', () => {
		for (const [ranks, microBatches] of [
			[4, 8],
			[8, 16],
		] as const) {
			const one = simulate(placeSchedule('1f1b', { ranks, microBatches, placement: 'folded', warmup: 'deep' })).endMs;
			expect(one).toBe(2 * microBatches * 3 + (ranks - 1) * 3);
			const zero = simulate(placeSchedule('zero-bubble', { ranks, microBatches, placement: 'folded' })).endMs;
			expect(zero).toBe(2 * microBatches * 3 + (ranks - 1));
		}
	});
});

describe('bidirectional', () => {
	test('one backbone goes down the ranks, the other up', () => {
		const placed = placeSchedule('bidirectional', { ranks: 3, microBatches: 2 });
		expect(placed.stages).toEqual([
			{ rank: 0, next: 1 },
			{ rank: 1, next: 2 },
			{ rank: 2 },
			{ rank: 2, next: 4 },
			{ rank: 1, next: 5 },
			{ rank: 0 },
		]);
		expect(formatScheduleGrid(placed.rows, placed.stages)).toMatchInlineSnapshot(`
			"slot   0   1   2   3   4   5   6   7   8   9
			rank 0 0F0 0F1     5F0 5B0 5F1 0B0 5B1 0B1
			rank 1     1F0 4F0 1F1 4F1 1B0 4B0 1B1 4B1
			rank 2 3F0 3F1 2F0 2B0 2F1 2B1     3B0     3B1
			"
		`);
	});

	test('one fills what the other leaves idle: never later than one after the other, and close to the bound', () => {
		fc.assert(
			fc.property(fc.integer({ min: 2, max: 6 }), microBatches, ms, ms, (ranks, microBatches, down, up) => {
				const options: PlaceOptions = { ranks, microBatches, backbones: 2 };
				const stages = costsOf('bidirectional', options, (stage) => {
					const scale = stage < ranks ? down : up;
					return { ...unit, forwardMs: scale, backwardInputMs: scale, backwardWeightMs: scale };
				});
				const placed = placeSchedule('bidirectional', { ...options, costs: { stages } });
				const apart = (microBatches + ranks - 1) * 3 * (down + up);
				expect(simulate(placed, stages).endMs).toBeLessThan(apart);
			}),
		);
		const ends = (
			[
				[4, 8],
				[8, 16],
			] as const
		).map(([ranks, microBatches]) => simulate(placeSchedule('bidirectional', { ranks, microBatches, warmup: 'deep' })).endMs);
		// Bounds (R/2 - 1)(f + b) beyond the work: 51 and 105. 1F1B of one backbone after the other: 66 and 138.
		expect(ends).toEqual([51, 107]);
	});
});

describe('self-conditioning', () => {
	test('sweeps ahead come first in the numbers, feed the stages that are trained, and may interleave with them', () => {
		const placed = placeSchedule('1f1b', { ranks: 2, microBatches: 3, selfConditioning: true });
		expect(placed.stages).toEqual([
			{ rank: 0, next: 1, forwardOnly: true },
			{ rank: 1, next: 2, forwardOnly: true },
			{ rank: 0, next: 3 },
			{ rank: 1 },
		]);
		expect(formatScheduleGrid(placed.rows, placed.stages)).toMatchInlineSnapshot(`
			"slot   0   1   2   3   4   5   6   7   8   9   10
			rank 0 0F0 0F1 0F2 2F0 2F1     2B0 2F2 2B1     2B2
			rank 1     1F0 1F1 1F2 3F0 3B0 3F1 3B1 3F2 3B2
			"
		`);
	});

	test('of two backbones either or both', () => {
		const of = (selfConditioning: boolean[]) => placeStages('bidirectional', { ranks: 2, microBatches: 1, selfConditioning }).stages;
		expect(of([false, true])).toEqual([
			{ rank: 0, next: 1 },
			{ rank: 1 },
			{ rank: 1, next: 3, forwardOnly: true },
			{ rank: 0, next: 4, forwardOnly: true },
			{ rank: 1, next: 5 },
			{ rank: 0 },
		]);
		expect(of([true, true])).toHaveLength(8);
	});

	test('with as many micro-batches as ranks, the sweeps cost what they compute and no more', () => {
		fc.assert(
			fc.property(ranks, fc.integer({ min: 0, max: 6 }), (ranks, more) => {
				const microBatches = ranks + more;
				const placed = placeSchedule('1f1b', { ranks, microBatches, selfConditioning: true });
				expect(simulate(placed).endMs).toBe(microBatches + (microBatches + ranks - 1) * 3);
			}),
		);
	});

	test('a long way back is covered by the other micro-batches, the order of the trained stages stays', () => {
		const options: PlaceOptions = { ranks: 4, microBatches: 4, selfConditioning: true };
		const stages = costsOf('1f1b', options, (stage) => ({ ...unit, hopForwardMs: stage === 3 ? 6 : 0 }));
		const placed = placeSchedule('1f1b', { ...options, costs: { stages } });
		const trained = placed.rows.map((row) =>
			row.filter(({ stage }) => stage >= 4).map((action) => ({ ...action, stage: action.stage - 4 })),
		);
		expect(trained).toEqual(oneFOneB({ stages: 4, microBatches: 4 }));
		// Four stages, the way back, then the pipeline as without a sweep.
		expect(simulate(placed, stages).endMs).toBeLessThanOrEqual(4 + 6 * 4 + (4 + 3) * 3);
	});
});

describe('refusals', () => {
	test('an unknown name gets the nearest known one', () => {
		expect(() => placeSchedule('interleaved1f1b', { ranks: 2, microBatches: 2 })).toThrow(
			`expected: one of ${Object.keys(scheduleKinds).join(', ')}\n  found: interleaved1f1b\n  try: interleaved-1f1b`,
		);
	});

	test('what a schedule cannot do is refused by its name', () => {
		expect(() => placeSchedule('interleaved-1f1b', { ranks: 2, microBatches: 2, placement: 'folded' })).toThrow(
			'schedule interleaved-1f1b: another placement\n  expected: linear\n  found: folded',
		);
		expect(() => placeSchedule('1f1b', { ranks: 2, microBatches: 2, backbones: 2 })).toThrow('try: bidirectional for two backbones');
		expect(() => placeSchedule('bidirectional', { ranks: 2, microBatches: 2, backbones: 1 })).toThrow('try: 1f1b or zero-bubble');
		expect(() => placeSchedule('gpipe', { ranks: 0, microBatches: 2 })).toThrow('schedule gpipe: bad number of ranks');
	});

	test('bad costs are refused at their stage', () => {
		const options: PlaceOptions = { ranks: 2, microBatches: 2 };
		expect(() => placeSchedule('1f1b', { ...options, costs: { stages: [unit] } })).toThrow(
			'expected: costs of 2 stages\n  found: costs of 1',
		);
		expect(() => placeSchedule('zero-bubble', { ...options, costs: { stages: [unit, { ...unit, forwardMs: Number.NaN }] } })).toThrow(
			'schedule zero-bubble: bad cost of stage 1\n  expected: a forwardMs from 0\n  found: NaN',
		);
		expect(() => placeSchedule('zero-bubble', { ...options, costs: { stages: [unit, unit], limitBytes: [4] } })).toThrow(
			'expected: 2 limits',
		);
	});

	test.each<[string, PlacedSchedule, string]>([
		['a row too few', { ranks: 2, stages: [{ rank: 0 }], rows: [[]] }, 'expected: one row for each of 2 ranks'],
		['a stage on no rank', { ranks: 1, stages: [{ rank: 1 }], rows: [[]] }, 'schedule, stage 0: on no rank'],
		[
			'a sweep that feeds nothing',
			{ ranks: 1, stages: [{ rank: 0, forwardOnly: true }], rows: [[]] },
			'schedule, stage 0: a sweep ahead that feeds nothing',
		],
		['a stage that feeds itself', { ranks: 1, stages: [{ rank: 0, next: 0 }], rows: [[]] }, 'schedule, stage 0: an earlier stage follows'],
		['a follower beyond', { ranks: 1, stages: [{ rank: 0, next: 3 }], rows: [[]] }, 'expected: a stage below 1\n  found: 3'],
		[
			'two that feed one',
			{ ranks: 1, stages: [{ rank: 0, next: 2 }, { rank: 0, next: 2 }, { rank: 0 }], rows: [[]] },
			'schedule, stage 1: two stages feed one',
		],
		[
			'a sweep after a trained stage',
			{ ranks: 1, stages: [{ rank: 0, next: 1 }, { rank: 0, next: 2, forwardOnly: true }, { rank: 0 }], rows: [[]] },
			'schedule, stage 0: a sweep ahead follows',
		],
		[
			'a stage on another rank',
			{ ranks: 2, stages: [{ rank: 0 }], rows: [[], [{ stage: 0, kind: 'F', micro: 0 }]] },
			'schedule, rank 1, action 0 (0F0): runs on another rank',
		],
		[
			'a backward of a sweep',
			{
				ranks: 1,
				stages: [{ rank: 0, next: 1, forwardOnly: true }, { rank: 0 }],
				rows: [
					[
						{ stage: 0, kind: 'F', micro: 0 },
						{ stage: 0, kind: 'B', micro: 0 },
					],
				],
			},
			'action 1 (0B0): no backward here',
		],
	])('%s is refused', (_, placed, message) => {
		expect(() => validatePlaced(placed, 1)).toThrow(message);
	});
});
