import { describe, expect, it } from 'vitest';
import { createChannel, createControl, createMeeting, drain, meet, pop, push, Stopped, stop } from '../../../src/engine/local/shared.ts';

describe('channel', () => {
	it('gives values in the order they came, however often it wraps round', () => {
		const control = createControl();
		for (const capacity of [1, 2, 3, 7]) {
			const channel = createChannel(capacity);
			let [sent, received] = [0n, 0n];
			for (let i = 0; i < 200; i++) {
				const count = 1 + (i % capacity);
				for (let k = 0; k < count; k++) push(control, channel, ++sent);
				for (let k = 0; k < count; k++) expect(pop(control, channel)).toBe(++received);
			}
			// The counters stay small, so that no number of messages makes them overflow.
			expect(Math.max(...channel.counters)).toBeLessThan(2 * capacity);
		}
	});

	it('drains what is left, at every place of the ring', () => {
		const control = createControl();
		const channel = createChannel(3);
		for (let i = 0n; i < 20n; i++) {
			for (let k = 0n; k < 1n + (i % 3n); k++) push(control, channel, 10n * i + k);
			expect(drain(channel)).toEqual(Array.from({ length: 1 + Number(i % 3n) }, (_, k) => 10n * i + BigInt(k)));
			expect(drain(channel)).toEqual([]);
		}
	});

	it('ends a wait when the run is stopped', () => {
		const control = createControl();
		const channel = createChannel(1);
		push(control, channel, 1n);
		stop(control);
		expect(() => push(control, channel, 2n)).toThrow(Stopped);
		expect(pop(control, channel)).toBe(1n);
		expect(() => pop(control, channel)).toThrow(Stopped);
	});
});

describe('meeting', () => {
	it('lets a single member through, and stops those that wait', () => {
		const control = createControl();
		const alone = createMeeting(1);
		for (let i = 0; i < 3; i++) meet(control, alone);
		stop(control);
		expect(() => meet(control, createMeeting(2))).toThrow(Stopped);
	});
});
