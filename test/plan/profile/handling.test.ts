import { describe, expect, it } from 'vitest';
import { measuredHandling } from '../../../src/plan/profile/handling.ts';

const action = { stage: 0, kind: 'F', micro: 0 } as const;

describe('measuredHandling', () => {
	it('takes means over devices, between spans what nothing else explains, and the host’s share of a step', () => {
		const first = [
			{ kind: 'feed', start: 1, end: 1.25 },
			{ kind: 'feed', start: 1.25, end: 1.5 },
			{ kind: 'run', start: 1.75, end: 5, action },
			{ kind: 'send', start: 5, end: 5.125, message: 'a 0' },
			{ kind: 'allReduce', start: 5, end: 8, beside: true },
			{ kind: 'recv', start: 5.25, end: 9, message: 'b 0' },
		];
		const second = [
			{ kind: 'recv', start: 1, end: 5.375, message: 'a 0' },
			{ kind: 'run', start: 5.375, end: 5.875 },
			{ kind: 'fetch', start: 5.875, end: 6.375 },
			{ kind: 'drop', start: 6.375, end: 6.875 },
			{ kind: 'idle', start: 6.875, end: 9.5 },
		];
		const devices = [
			{ device: 0, spans: first },
			{ device: 1, spans: second },
		];
		expect(measuredHandling([{ devices, stepMs: 10 }, { devices }])).toEqual({
			feedMs: 0.25,
			fetchMs: 0.5,
			joinMs: 0.5,
			sendMs: 0.125,
			messageMs: 0.25,
			// Seven steps from one to the next that is no drop: 0, 0.25, 0, 0.125 and 0, 0, and 0.5 of the drop.
			betweenMs: 0.875 / 7,
			stepMs: 1.5,
		});
	});

	it('is nothing where nothing was measured', () => {
		expect(measuredHandling([])).toEqual({ feedMs: 0, fetchMs: 0, joinMs: 0, sendMs: 0, betweenMs: 0, stepMs: 0 });
	});
});
