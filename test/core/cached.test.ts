import { expect, test } from 'vitest';
import { cached } from '../../src/core/cached.ts';

test('a value is made once, also when it is undefined', () => {
	const map = new Map<string, number | undefined>();
	let made = 0;
	const make = (value: number | undefined) => () => {
		made++;
		return value;
	};
	expect([cached(map, 'a', make(1)), cached(map, 'a', make(2)), cached(map, 'b', make(undefined)), cached(map, 'b', make(3))]).toEqual([
		1,
		1,
		undefined,
		undefined,
	]);
	expect(made).toBe(2);
});
