import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { simulatePipeline } from '../../../src/plan/pipeline/simulate.ts';
import { placedSchedules, placeSchedule } from '../../../src/plan/schedules/index.ts';
import { formatSchedule } from '../../../src/plan/schedules/text.ts';
import type { PlacedSchedule, StageCosts } from '../../../src/plan/schedules/types.ts';
import { validatePlaced } from '../../../src/plan/schedules/validate.ts';

const unit: StageCosts = { forwardMs: 1, backwardInputMs: 1, backwardWeightMs: 1, hopForwardMs: 0, hopBackwardMs: 0, savedBytes: 1 };

function simulate(placed: PlacedSchedule, costs: (stage: number) => StageCosts = () => unit) {
	return simulatePipeline({
		...placed,
		stages: placed.stages.map((place, i) => ({ ...place, ...costs(i), syncMs: 0, updateMs: 0, staticBytes: 0 })),
	});
}

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

	test('fills in stages of a fraction of a rank: (M chunks + R - 1)(f + b) of one stage, where R divides M', () => {
		fc.assert(
			fc.property(
				fc.integer({ min: 1, max: 6 }),
				fc.integer({ min: 1, max: 3 }),
				fc.integer({ min: 2, max: 3 }),
				(ranks, rounds, chunks) => {
					const microBatches = ranks * rounds;
					const placed = validatePlaced(placeSchedule('interleaved-1f1b', { ranks, microBatches, chunks }), microBatches);
					expect(simulate(placed).endMs).toBe((microBatches * chunks + ranks - 1) * 3);
				},
			),
		);
	});

	test('micro-batches that do not go round are refused', () => {
		expect(() => placeSchedule('interleaved-1f1b', { ranks: 4, microBatches: 6 })).toThrow(
			'schedule interleaved-1f1b: micro-batches do not go round the ranks\n  expected: a multiple of 4 ranks\n  found: 6 micro-batches',
		);
		expect(() => placeSchedule('interleaved-1f1b', { ranks: 4, microBatches: 8, chunks: 1 })).toThrow('try: 1f1b');
	});
});

test('an unknown name gets the nearest known one', () => {
	expect(() => placeSchedule('interleaved1f1b', { ranks: 2, microBatches: 2 })).toThrow(
		`expected: one of ${Object.keys(placedSchedules).join(', ')}\n  found: interleaved1f1b\n  try: interleaved-1f1b`,
	);
});

test('what a schedule cannot do is refused by name', () => {
	expect(() => placeSchedule('interleaved-1f1b', { ranks: 2, microBatches: 2, placement: 'folded' })).toThrow(
		'schedule interleaved-1f1b: another placement\n  expected: linear\n  found: folded',
	);
	expect(() => placeSchedule('1f1b', { ranks: 2, microBatches: 2, backbones: 2 })).toThrow('try: bidirectional for two backbones');
	expect(() => placeSchedule('gpipe', { ranks: 0, microBatches: 2 })).toThrow('schedule gpipe: bad number of ranks');
});
