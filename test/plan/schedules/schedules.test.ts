import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { gpipe } from '../../../src/plan/schedules/gpipe.ts';
import { scheduleByName, schedules } from '../../../src/plan/schedules/index.ts';
import { oneFOneB, warmUpDepth } from '../../../src/plan/schedules/one-f-one-b.ts';
import { formatAction, formatSchedule, formatScheduleGrid, parseAction, parseSchedule } from '../../../src/plan/schedules/text.ts';
import type { Action, Schedule, WarmUp } from '../../../src/plan/schedules/types.ts';
import { validateSchedule } from '../../../src/plan/schedules/validate.ts';

const rows = (...lines: string[]) => parseSchedule(`${lines.join('\n')}\n`);

describe('generators', () => {
	test('gpipe runs all forwards, then all backwards', () => {
		expect(formatSchedule(gpipe({ stages: 2, microBatches: 3 }))).toBe('0F0,0F1,0F2,0B0,0B1,0B2\n1F0,1F1,1F2,1B0,1B1,1B2\n');
	});

	test('1f1b warms up by S-1-s forwards', () => {
		expect(formatSchedule(oneFOneB({ stages: 3, microBatches: 4 }))).toBe(
			'0F0,0F1,0F2,0B0,0F3,0B1,0B2,0B3\n1F0,1F1,1B0,1F2,1B1,1F3,1B2,1B3\n2F0,2B0,2F1,2B1,2F2,2B2,2F3,2B3\n',
		);
	});

	test('deep 1f1b warms up by 2(S-1-s) forwards, or all there are', () => {
		expect(formatSchedule(oneFOneB({ stages: 3, microBatches: 4, warmup: 'deep' }))).toBe(
			'0F0,0F1,0F2,0F3,0B0,0B1,0B2,0B3\n1F0,1F1,1F2,1B0,1F3,1B1,1B2,1B3\n2F0,2B0,2F1,2B1,2F2,2B2,2F3,2B3\n',
		);
		expect(warmUpDepth(0, 4)).toBe(3);
		expect(warmUpDepth(1, 4, 'deep')).toBe(4);
	});

	test('every schedule is valid, and 1f1b holds at most warm-up + 1 micro-batches', () => {
		fc.assert(
			fc.property(
				fc.constantFrom(...Object.keys(schedules)),
				fc.integer({ min: 1, max: 7 }),
				fc.integer({ min: 1, max: 12 }),
				fc.constantFrom<WarmUp>('usual', 'deep'),
				(name, stages, microBatches, warmup) => {
					const schedule = scheduleByName(name)({ stages, microBatches, warmup });
					validateSchedule(schedule, { stages, microBatches });
					if (name !== '1f1b') return;
					for (const [stage, row] of schedule.entries()) {
						let held = 0;
						let most = 0;
						for (const action of row) {
							held += action.kind === 'F' ? 1 : -1;
							most = Math.max(most, held);
						}
						expect(most).toBe(Math.min(microBatches, warmUpDepth(stage, stages, warmup) + 1));
					}
				},
			),
		);
	});

	test('counts below 1 are refused by name', () => {
		expect(() => oneFOneB({ stages: 2, microBatches: 0 })).toThrow(
			'schedule 1f1b: bad number of microBatches\n  expected: a whole number from 1\n  found: 0',
		);
		expect(() => gpipe({ stages: 1.5, microBatches: 2 })).toThrow('bad number of stages');
	});

	test('an unknown name gets the nearest known one', () => {
		expect(() => scheduleByName('1f1p', 'plan.schedule')).toThrow(
			'plan.schedule: unknown schedule\n  expected: one of gpipe, 1f1b\n  found: 1f1p\n  try: 1f1b',
		);
		expect(() => scheduleByName('toString')).toThrow('unknown schedule');
	});
});

describe('text', () => {
	const action = fc.record<Action>({ stage: fc.nat(99), kind: fc.constantFrom('F', 'B', 'I', 'W'), micro: fc.nat(999) });

	test('what is printed is read back', () => {
		fc.assert(
			fc.property(fc.array(fc.array(action, { maxLength: 8 }), { maxLength: 6 }), (schedule: Schedule) => {
				expect(parseSchedule(formatSchedule(schedule))).toEqual(schedule);
			}),
		);
	});

	test('empty cells, spaces and CRLF are read as PyTorch writes them', () => {
		expect(parseSchedule('0F0,0F1,, ,0B0\r\n,1F0,1I0,1W0\r\n').map((row) => row.map(formatAction))).toEqual([
			['0F0', '0F1', '0B0'],
			['1F0', '1I0', '1W0'],
		]);
	});

	test('what is no compute action is refused at its cell', () => {
		expect(() => parseSchedule('0F0,0B0\n1F0,1G0\n')).toThrow('schedule, rank 1, cell 1: not a compute action');
		expect(() => parseAction('3SEND_F1')).toThrow(/found: "3SEND_F1"\n {2}try: the compute-only form/);
		expect(() => parseAction('F3')).toThrow('not a compute action');
		expect(() => parseAction('0F')).toThrow('not a compute action');
	});

	test('the grid shows who waits', () => {
		expect(formatScheduleGrid(oneFOneB({ stages: 3, microBatches: 4 }))).toMatchInlineSnapshot(`
			"slot   0   1   2   3   4   5   6   7   8   9   10  11
			rank 0 0F0 0F1 0F2         0B0 0F3 0B1     0B2     0B3
			rank 1     1F0 1F1     1B0 1F2 1B1 1F3 1B2     1B3
			rank 2         2F0 2B0 2F1 2B1 2F2 2B2 2F3 2B3
			"
		`);
	});
});

describe('validation', () => {
	const two = { stages: 2, microBatches: 2 };
	const valid = ['0F0,0F1,0B0,0B1', '1F0,1I0,1F1,1W0,1I1,1W1'] as const;

	test('B may be split into I and W', () => {
		expect(validateSchedule(rows(...valid), two)).toHaveLength(2);
	});

	test.each<[string, string[], string]>([
		['a backward before its forward', ['0F0,0B1,0F1,0B0', valid[1]], 'rank 0, action 1 (0B1): runs too early'],
		['W before I', [valid[0], '1F0,1W0,1I0,1F1,1B1'], 'rank 1, action 1 (1W0): runs too early'],
		['twice', ['0F0,0F1,0F1,0B0,0B1', valid[1]], 'rank 0, action 2 (0F1): runs twice'],
		['B and I', [valid[0], '1F0,1B0,1I0,1W0,1F1,1B1'], 'rank 1, action 2 (1I0): runs twice\n  expected: one backward'],
		[
			'a missing backward',
			['0F0,0F1,0B0', valid[1]],
			'rank 0: an action is missing\n  expected: each of 2 stages running each of 2 micro-batches\n  found: no 0B1',
		],
		['a missing W', [valid[0], '1F0,1I0,1F1,1I1,1W1'], 'found: no 1W0'],
		['a missing stage', [valid[0]], 'schedule: an action is missing'],
		['a stage beyond', [valid[0], '2F0'], 'rank 1, action 0 (2F0): unknown stage'],
		['a micro-batch beyond', ['0F0,0F2', valid[1]], 'rank 0, action 1 (0F2): unknown micro-batch'],
		[
			'a backward on another rank',
			['0F0,0F1,0B0', `${valid[1]},0B1`],
			'rank 1, action 6 (0B1): runs on another rank\n  expected: rank 0, where its F runs',
		],
		['a forward on a later rank', ['0F0,0B0,0B1', `${valid[1]},0F1`], 'rank 0, action 2 (0B1): runs too early'],
	])('%s is refused', (_, lines, message) => {
		expect(() => validateSchedule(rows(...lines), two)).toThrow(message);
	});

	test('rows that wait for each other are named with what they wait for', () => {
		// Rank 0 wants the gradient of micro-batch 0 before it has sent micro-batch 1; rank 1 runs micro-batch 1 first.
		expect(() => validateSchedule(rows('0F0,0B0,0F1,0B1', '1F1,1B1,1F0,1B0'), two)).toThrow(
			'found: rank 0 at 0B0 waits for 1B0; rank 1 at 1F1 waits for 0F1',
		);
	});

	test('one action dropped or doubled in a valid schedule is refused', () => {
		fc.assert(
			fc.property(
				fc.integer({ min: 1, max: 4 }),
				fc.integer({ min: 1, max: 5 }),
				fc.nat(),
				fc.boolean(),
				(stages, microBatches, pick, drop) => {
					const schedule = oneFOneB({ stages, microBatches }).map((row) => [...row]);
					const row = schedule[pick % stages]!;
					const index = pick % row.length;
					if (drop) row.splice(index, 1);
					else row.splice(index, 0, row[index]!);
					expect(() => validateSchedule(schedule, { stages, microBatches })).toThrow();
				},
			),
		);
	});
});
