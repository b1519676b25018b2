import { describe, expect, it } from 'vitest';
import { plannedIdle } from '../../../src/plan/search/frozen.ts';

const handling = { feedMs: 0.1, fetchMs: 9, joinMs: 0.2, sendMs: 9, betweenMs: 0.05, stepMs: 9 };
const idle = [
	[
		{ start: 0, end: 10 },
		{ start: 20, end: 21 },
		{ start: 30, end: 40 },
	],
	[{ start: 5, end: 15 }],
];

describe('plannedIdle', () => {
	it('leaves room in gaps before other work, none at the end of the iteration', () => {
		// Three runs' feeds, joins and steps between instructions, and 3 % of the gap.
		const [first, second] = plannedIdle(idle, 40, handling);
		expect(first).toEqual([
			{ start: 0, end: expect.closeTo(10 - 1.5 - 0.3, 9) },
			// No gap ends before it starts.
			{ start: 20, end: 20 },
			{ start: 30, end: 40 },
		]);
		expect(second).toEqual([{ start: 5, end: expect.closeTo(15 - 1.8, 9) }]);
	});

	it('takes all where nothing is known', () => {
		expect(plannedIdle(idle, 40, undefined)).toBe(idle);
	});
});
