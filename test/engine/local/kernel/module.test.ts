import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { signed, unsigned } from '../../../../src/engine/local/kernel/module.ts';

/** Reads LEB128, as the WebAssembly specification defines it. */
function read(bytes: readonly number[], isSigned: boolean): bigint {
	const value = bytes.reduce((sum, b, i) => sum | (BigInt(b & 0x7f) << BigInt(7 * i)), 0n);
	const bits = BigInt(7 * bytes.length);
	return isSigned && bytes.at(-1)! & 0x40 ? value - (1n << bits) : value;
}

const wellFormed = (bytes: readonly number[]) => bytes.every((b, i) => b >= 128 === i < bytes.length - 1);

describe('LEB128', () => {
	it('gives unsigned numbers back', () => {
		fc.assert(
			fc.property(fc.integer({ min: 0, max: 2 ** 32 - 1 }), (value) => {
				expect(wellFormed(unsigned(value))).toBe(true);
				expect(read(unsigned(value), false)).toBe(BigInt(value));
			}),
		);
	});

	it('gives signed numbers back', () => {
		fc.assert(
			fc.property(fc.integer(), (value) => {
				expect(wellFormed(signed(value))).toBe(true);
				expect(read(signed(value), true)).toBe(BigInt(value));
			}),
			{ examples: [[0], [63], [64], [-64], [-65], [2 ** 31 - 1], [-(2 ** 31)]] },
		);
	});
});
