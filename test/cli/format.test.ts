/** @file Numbers, sizes, times, tables and words as people read them. */
import { describe, expect, it } from 'vitest';
import { formatBytes, formatCount, formatNumber, formatSeconds, formatTable, plural, shellWord } from '../../src/cli/format.ts';

describe('numbers for people', () => {
	it.each([
		[0, '0 B'],
		[999, '999 B'],
		[1000, '1.0 kB'],
		[12_345, '12.3 kB'],
		[123_456, '123 kB'],
		[999_600, '1.0 MB'],
		[80e9, '80.0 GB'],
		[5e15, '5000 TB'],
	])('%d bytes: %s', (bytes, text) => expect(formatBytes(bytes)).toBe(text));

	it.each([
		[7, '7'],
		[831_000, '831 k'],
		[23_960_000, '24.0 M'],
		[1.186e11, '119 G'],
	])('a count of %d: %s', (count, text) => expect(formatCount(count)).toBe(text));

	it.each([
		[0.0421, '42 ms'],
		[1, '1 s'],
		[59.4, '59 s'],
		[59.6, '1m 00s'],
		[185, '3m 05s'],
		[3599.6, '1h 00m'],
		[7620, '2h 07m'],
		[Number.NaN, '?'],
	])('%d seconds: %s', (seconds, text) => expect(formatSeconds(seconds)).toBe(text));

	it.each([
		[0, '0.000'],
		[0.123456, '0.1235'],
		[0.0001234, '1.23e-4'],
		[-12.5, '-12.50'],
		[2.5e7, '2.50e+7'],
		[Number.NaN, 'NaN'],
	])('the number %d: %s', (value, text) => expect(formatNumber(value)).toBe(text));

	it('counts things', () => {
		expect([plural(1, 'step'), plural(2, 'step'), plural(0, 'step')]).toEqual(['1 step', '2 steps', '0 steps']);
	});
});

describe('tables and command lines', () => {
	it('aligns columns, some to the right, and leaves no spaces at the end', () => {
		expect(
			formatTable(
				[
					['a', '1', 'x'],
					['bbb', '100', ''],
				],
				[1],
			),
		).toEqual(['a      1  x', 'bbb  100']);
		expect(formatTable([])).toEqual([]);
	});

	it('quotes only words that a shell would take apart', () => {
		expect(['runs/a', "it's", 'a b', '', 'x=[1]'].map(shellWord)).toEqual(['runs/a', "'it'\\''s'", "'a b'", "''", "'x=[1]'"]);
	});
});
