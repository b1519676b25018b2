/** @file Element types, tensors, and the conversions of 16-bit floats and int64. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
	bfloat16ToNumber,
	byteSize,
	bytesPerElement,
	type DType,
	describe as describeType,
	halfToNumber,
	int64Vector,
	makeArray,
	numberToBfloat16,
	numberToHalf,
	readElement,
	sameShape,
	sizeOf,
	stridesOf,
	tensor,
	toNumbers,
	writeElement,
	zeros,
} from '../../src/core/tensor.ts';

const dtypes: readonly DType[] = ['float32', 'float64', 'float16', 'bfloat16', 'int64', 'int32', 'int8', 'uint8', 'bool'];
const shapes = fc.array(fc.integer({ min: 0, max: 5 }), { maxLength: 4 });
const { NaN: nan, POSITIVE_INFINITY: infinity } = Number;

/** What stands in the array after `value` was written as `dtype`, read back. */
function stored(dtype: DType, value: number): number {
	const data = makeArray(dtype, 1);
	writeElement(dtype, data, 0, value);
	return readElement(dtype, data, 0);
}

describe('shapes', () => {
	it('count elements and bytes', () => {
		expect(sizeOf([])).toBe(1);
		expect(sizeOf([2, 0, 3])).toBe(0);
		expect(dtypes.map(bytesPerElement)).toEqual([4, 8, 2, 2, 8, 4, 1, 1, 1]);
		expect(byteSize({ dtype: 'float16', shape: [3, 5] })).toBe(30);
		expect(byteSize({ dtype: 'int64', shape: [] })).toBe(8);
	});

	it('have strides that number every element once', () => {
		expect(stridesOf([])).toEqual([]);
		expect(stridesOf([2, 3, 4])).toEqual([12, 4, 1]);
		fc.assert(
			fc.property(shapes, (shape) => {
				let offsets = [0];
				stridesOf(shape).forEach((s, axis) => {
					offsets = offsets.flatMap((o) => Array.from({ length: shape[axis]! }, (_, k) => o + k * s));
				});
				expect(offsets).toEqual([...Array(sizeOf(shape)).keys()]);
			}),
		);
	});

	it('are the same when every dimension is', () => {
		expect(sameShape([2, 3], [2, 3])).toBe(true);
		expect(sameShape([], [])).toBe(true);
		expect(sameShape([2, 3], [3, 2])).toBe(false);
		expect(sameShape([2, 3], [2, 3, 1])).toBe(false);
		expect(sameShape([2, 3, 1], [2, 3])).toBe(false);
	});

	it('are written with their element type', () => {
		expect(describeType({ dtype: 'float32', shape: [2, 3] })).toBe('float32[2,3]');
		expect(describeType({ dtype: 'bool', shape: [] })).toBe('bool[]');
	});
});

describe('tensors', () => {
	it('of zeros fill their shape', () => {
		fc.assert(
			fc.property(fc.constantFrom(...dtypes), shapes, (dtype, shape) => {
				const t = zeros(dtype, shape);
				expect([t.dtype, t.shape]).toEqual([dtype, shape]);
				expect(toNumbers(t)).toEqual(Array(sizeOf(shape)).fill(0));
				expect(t.data.byteLength).toBe(byteSize(t));
			}),
		);
	});

	it('hold the values given, in any element type', () => {
		for (const dtype of dtypes) expect(toNumbers(tensor(dtype, [2, 2], [0, 1, 1, 0]))).toEqual([0, 1, 1, 0]);
		expect(toNumbers(tensor('int32', [3], new Set([5, 6, 7])))).toEqual([5, 6, 7]);
		expect(toNumbers(tensor('float32', [], [0.1]))).toEqual([Math.fround(0.1)]);
		expect(int64Vector([3, -1])).toEqual({ dtype: 'int64', shape: [2], data: BigInt64Array.of(3n, -1n) });
	});

	it('keep every digit of an int64', () => {
		const values = [2n ** 53n + 1n, 2n ** 63n - 1n, -(2n ** 63n)];
		expect([...tensor('int64', [3], values).data]).toEqual(values);
		expect([...tensor('int64', [2], [2n ** 63n, -(2n ** 63n) - 1n]).data]).toEqual([2n ** 63n - 1n, -(2n ** 63n)]);
		expect(toNumbers(tensor('float64', [1], [2n ** 53n]))).toEqual([2 ** 53]);
	});

	it('refuse more or fewer values than the shape holds', () => {
		expect(() => tensor('float32', [2, 2], [1, 2, 3])).toThrow(/^tensor float32\[2,2\]: .*\n {2}expected: 4 values\n {2}found: 3$/);
		expect(() => tensor('float32', [2], [1, 2, 3])).toThrow(/expected: 2 values\n {2}found: more/);
		expect(() => tensor('float32', [0], [1])).toThrow(/expected: 0 values/);
	});

	it('can view memory that is there', () => {
		const { buffer } = Float32Array.of(1, 2, 3, 4);
		const view = makeArray('float32', 2, buffer, 8);
		expect([...view]).toEqual([3, 4]);
		view[0] = 9;
		expect([...new Float32Array(buffer)]).toEqual([1, 2, 9, 4]);
		expect(makeArray('int64', 3)).toEqual(new BigInt64Array(3));
	});
});

describe('elements', () => {
	it('saturate at the bounds of int64', () => {
		const data = new BigInt64Array(1);
		const write = (value: number) => {
			writeElement('int64', data, 0, value);
			return data[0];
		};
		expect([infinity, 1e300, 2 ** 63].map(write)).toEqual(Array(3).fill(2n ** 63n - 1n));
		expect([-infinity, -1e300, -(2 ** 63)].map(write)).toEqual(Array(3).fill(-(2n ** 63n)));
		expect([nan, -0, 0.9, -1.9].map(write)).toEqual([0n, 0n, 0n, -1n]);
		expect(write(2 ** 63 - 1024)).toBe(2n ** 63n - 1024n);
	});

	it('keep the low bits in narrower integers', () => {
		expect([1.9, -1.9, 2 ** 31, nan, infinity].map((v) => stored('int32', v))).toEqual([1, -1, -(2 ** 31), 0, 0]);
		expect([127, 128, -129].map((v) => stored('int8', v))).toEqual([127, -128, 127]);
		expect([255, 256, -1].map((v) => stored('uint8', v))).toEqual([255, 0, 255]);
	});

	it('are true unless they are 0', () => {
		expect([0, -0, 1, -3, 0.1, nan].map((v) => stored('bool', v))).toEqual([0, 0, 1, 1, 1, 1]);
	});

	it('are rounded once by the float types', () => {
		for (const dtype of ['float32', 'float64', 'float16', 'bfloat16'] as const) {
			expect([0.5, -0, nan, infinity, -infinity].map((v) => stored(dtype, v))).toEqual([0.5, -0, nan, infinity, -infinity]);
		}
		expect(stored('float64', 0.1)).toBe(0.1);
		expect(stored('float32', 0.1)).toBe(Math.fround(0.1));
	});
});

/** Properties of a 16-bit float: every pattern decodes and encodes to itself, and every number goes to the nearest pattern. */
function sixteenBits(toNumber: (bits: number) => number, toBits: (value: number) => number, exponentMask: number): void {
	it('round-trips every pattern but the payload of NaN', () => {
		for (let bits = 0; bits < 65536; bits++) {
			const value = toNumber(bits);
			if (Number.isNaN(value)) {
				expect((bits & exponentMask) === exponentMask && (bits & 0x7fff) !== exponentMask).toBe(true);
				expect(toNumber(toBits(value))).toBeNaN();
			} else if (toBits(value) !== bits) throw new Error(`pattern ${bits.toString(16)} came back as ${toBits(value).toString(16)}`);
		}
	});

	it('grows with its pattern', () => {
		for (let bits = 1; bits <= exponentMask; bits++) {
			if (!(toNumber(bits) > toNumber(bits - 1) && toNumber(0x8000 | bits) === -toNumber(bits)))
				throw new Error(`pattern ${bits.toString(16)}`);
		}
	});

	it('rounds any number to the nearest pattern, an even one at ties', () => {
		// Half a step beyond the largest number would be the next one's place, had it one: from there on it is infinity.
		const largest = toNumber(exponentMask - 1);
		const beyond = 2 * largest - toNumber(exponentMask - 2);
		const decoded = (bits: number) => (bits === exponentMask ? beyond : toNumber(bits));
		const between = fc.record({ low: fc.integer({ min: 0, max: exponentMask - 1 }), part: fc.double({ min: 0, max: 1, noNaN: true }) });
		const near = between.map(({ low, part }) => decoded(low) + part * (decoded(low + 1) - decoded(low)));
		const ties = fc.integer({ min: 0, max: exponentMask - 1 }).chain((low) => {
			const middle = (decoded(low) + decoded(low + 1)) / 2;
			return fc.constantFrom(middle, middle * (1 + 2 ** -40), middle * (1 - 2 ** -40));
		});
		const any = fc.double({ min: -beyond, max: beyond, noNaN: true });
		fc.assert(
			fc.property(fc.oneof(near, ties, any), fc.boolean(), (magnitude, negative) => {
				const x = negative ? -magnitude : magnitude;
				const bits = toBits(x);
				const pattern = bits & 0x7fff;
				expect(bits >>> 15).toBe(Object.is(Math.sign(x), -0) || x < 0 ? 1 : 0);
				const off = (p: number) => Math.abs(decoded(p) - Math.abs(x));
				for (const other of [pattern - 1, pattern + 1]) {
					if (other < 0 || other > exponentMask) continue;
					expect(off(pattern)).toBeLessThanOrEqual(off(other));
					if (off(pattern) === off(other)) expect(pattern % 2).toBe(0);
				}
			}),
			{ numRuns: 2000 },
		);
	});
}

describe('float16', () => {
	// Bits as NumPy's float64 to float16 conversion gives them.
	it.each([
		[0, 0x0000],
		[-0, 0x8000],
		[1, 0x3c00],
		[-2, 0xc000],
		[0.1, 0x2e66],
		[1 / 3, 0x3555],
		[Math.PI, 0x4248],
		[65504, 0x7bff],
		[65519.9999999, 0x7bff],
		[65520, 0x7c00],
		[-1e10, 0xfc00],
		[2 ** -14, 0x0400],
		[2 ** -14 - 2 ** -25, 0x0400],
		[2 ** -14 * (1 - 2 ** -11) - 1e-12, 0x03ff],
		[2 ** -24, 0x0001],
		[2 ** -25, 0x0000],
		[2 ** -25 * 1.0000001, 0x0001],
		[-1e-30, 0x8000],
		[1 + 2 ** -11, 0x3c00],
		[1 + 2 ** -11 + 2 ** -40, 0x3c01],
		[1 + 3 * 2 ** -11, 0x3c02],
		[infinity, 0x7c00],
		[-infinity, 0xfc00],
		[nan, 0x7e00],
	])('encodes %d', (value, bits) => {
		expect(numberToHalf(value)).toBe(bits);
	});

	sixteenBits(halfToNumber, numberToHalf, 0x7c00);
});

describe('bfloat16', () => {
	it.each([
		[0, 0x0000],
		[-0, 0x8000],
		[1, 0x3f80],
		[-2, 0xc000],
		[0.1, 0x3dcd],
		[1 / 3, 0x3eab],
		[Math.PI, 0x4049],
		[1 + 2 ** -8, 0x3f80],
		[1 + 2 ** -8 + 2 ** -40, 0x3f81],
		[1 + 3 * 2 ** -8, 0x3f82],
		[(2 - 2 ** -7) * 2 ** 127, 0x7f7f],
		[(2 - 2 ** -8) * 2 ** 127, 0x7f80],
		[1e300, 0x7f80],
		[2 ** -133, 0x0001],
		[2 ** -134, 0x0000],
		[infinity, 0x7f80],
		[-infinity, 0xff80],
		[nan, 0x7fc0],
	])('encodes %d', (value, bits) => {
		expect(numberToBfloat16(value)).toBe(bits);
	});

	sixteenBits(bfloat16ToNumber, numberToBfloat16, 0x7f80);
});
