/** @file Functions of one operand, conversion and clamping: values and errors. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { numberToHalf, tensor, toNumbers } from '../../../src/core/tensor.ts';
import { createBuilder } from '../../../src/graph/builder.ts';
import { gradients } from '../../../src/graph/differentiate.ts';
import { erf, erfc, normalCdf } from '../../../src/graph/ops/erf.ts';
import { expectClose } from '../../helpers/close.ts';
import { run } from '../../helpers/gradcheck.ts';
import { graphError } from '../../helpers/graph-error.ts';

const f64 = (values: number[]) => tensor('float64', [values.length], values);

describe('erf', () => {
	it('has the published values', () => {
		expectClose(
			[0, 0.1, 0.5, 1, 2, 2.5, 3, -1, 6].map(erf),
			[
				0, 0.1124629160182849, 0.5204998778130465, 0.8427007929497149, 0.9953222650189527, 0.999593047982555, 0.9999779095030014,
				-0.8427007929497149, 1,
			],
			{ rtol: 2e-15, atol: 0 },
		);
	});

	it('keeps the relative precision of its complement far out', () => {
		expectClose(
			[2.5, 3, 5, 10, -3].map(erfc),
			[4.069520174449589e-4, 2.209049699858544e-5, 1.537459794428035e-12, 2.088487583762545e-45, 1.9999779095030015],
			{
				rtol: 1e-13,
				atol: 0,
			},
		);
		expectClose([normalCdf(0), normalCdf(1.959963984540054), normalCdf(-8)], [0.5, 0.975, 6.220960574271784e-16], { rtol: 1e-13, atol: 0 });
	});

	it('is odd, and continuous where the two expansions meet', () => {
		fc.assert(fc.property(fc.double({ min: -6, max: 6, noNaN: true }), (x) => Math.abs(erf(x) + erf(-x)) < 1e-15));
		expect(Math.abs(erf(2.5) - erf(2.5 - 1e-13))).toBeLessThan(1e-14);
	});
});

describe('unary operators', () => {
	it.each([
		['neg', [-1, 2], [1, -2]],
		['abs', [-1.5, 0, 2], [1.5, 0, 2]],
		['sign', [-3, 0, 0.1], [-1, 0, 1]],
		['exp', [0, 1], [1, Math.E]],
		['log', [1, Math.E], [0, 1]],
		['sqrt', [4, 2], [2, Math.SQRT2]],
		['reciprocal', [4, -0.5], [0.25, -2]],
		['erf', [0.5, -1], [0.5204998778130465, -0.8427007929497149]],
		['sin', [0, Math.PI / 6], [0, 0.5]],
		['cos', [0, Math.PI / 3], [1, 0.5]],
		['floor', [-1.5, 1.5], [-2, 1]],
		['ceil', [-1.5, 1.5], [-1, 2]],
		['round', [-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 2.51], [-2, -2, 0, 0, 2, 2, 3]],
		['identity', [1, -2], [1, -2]],
	] as const)('%s', (name, x, expected) => {
		const [y] = run((g, v) => g[name](v!), [f64([...x])]);
		expectClose(y!, expected, { rtol: 1e-15, atol: 1e-15 });
	});

	it('round to a nearest whole number, an even one at ties', () => {
		fc.assert(
			fc.property(fc.double({ min: -1e6, max: 1e6, noNaN: true }), (x) => {
				const y = toNumbers(run((g, v) => g.round(v!), [f64([x])])[0]!)[0]!;
				expect(Number.isInteger(y)).toBe(true);
				expect(Math.abs(y - x)).toBeLessThanOrEqual(0.5);
				if (Math.abs(y - x) === 0.5) expect(y % 2 === 0).toBe(true);
			}),
		);
	});

	it('round the result once into half precision', () => {
		const [y] = run((g, x) => g.exp(x!), [tensor('float16', [2], [1, -1])]);
		expect(y!.dtype).toBe('float16');
		expect([...y!.data]).toEqual([numberToHalf(Math.E), numberToHalf(1 / Math.E)]);
	});

	it('let whole numbers pass where they make sense alone', () => {
		expect(toNumbers(run((g, x) => g.neg(x!), [tensor('int64', [2], [3, -4])])[0]!)).toEqual([-3, 4]);
		expect(graphError((g, x) => g.exp(x!), [{ shape: [2], dtype: 'int64' }])).toMatch(
			/Exp\(int64\[2\]\).*not supported\n.*expected: a float type/,
		);
		expect(graphError((g, x) => g.neg(x!), [{ shape: [2], dtype: 'uint8' }])).toMatch(/expected: a signed numeric type/);
		expect(graphError((g, x) => g.abs(x!), [{ shape: [2], dtype: 'bool' }])).toMatch(/expected: a numeric type/);
		expect(graphError((g, x) => g.emit('Sin', [x, x]), [{ shape: [2] }])).toMatch(/2 inputs given/);
	});
});

describe('Cast', () => {
	it('drops fractions, and makes truth of anything but zero', () => {
		const x = f64([-1.7, -0.2, 0, 0.9, 2.5]);
		const [whole, flags] = run((g, v) => [g.cast(v!, 'int64'), g.cast(v!, 'bool')], [x]);
		expect(toNumbers(whole!)).toEqual([-1, 0, 0, 0, 2]);
		expect(toNumbers(flags!)).toEqual([1, 1, 0, 1, 1]);
	});

	it('has a result even where none is defined', () => {
		const x = f64([Number.NaN, Number.POSITIVE_INFINITY]);
		const results = run((g, v) => [g.cast(v!, 'int64'), g.cast(v!, 'int32')], [x]);
		expect(results.flatMap(toNumbers)).toEqual([0, 0, 0, 0]);
	});

	it('goes through half precision and back', () => {
		const [y] = run((g, x) => g.cast(g.cast(x!, 'bfloat16'), 'float64'), [f64([1.001, -2.7])]);
		expect(toNumbers(y!)).toEqual([1, -2.703125]);
	});

	it('passes the gradient between floats in the type of its input, and none to whole numbers', () => {
		const g = createBuilder('cast');
		const x = g.input('x', 'float32', [2]);
		const n = g.input('n', 'int64', [2]);
		const half = g.cast(x, 'float16');
		const y = g.add(half, g.cast(n, 'float16'));
		const [dx, dn] = gradients(g, [{ value: y, grad: g.input('dy', 'float16', [2]) }], [x, n]);
		expect(dx?.dtype).toBe('float32');
		expect(dn).toBeUndefined();
	});

	it('names the element types it knows', () => {
		expect(graphError((g, x) => g.emit('Cast', [x], { to: 8 }), [{ shape: [2] }])).toMatch(
			/element type 8 is not supported\n.*1 \(float32\).*16 \(bfloat16\)/,
		);
		expect(graphError((g, x) => g.emit('Cast', [x]), [{ shape: [2] }])).toMatch(/attribute to is missing/);
	});
});

describe('Clip', () => {
	it('clamps to the bounds that are given', () => {
		const x = f64([-2, 0, 2]);
		const results = run(
			(g, v) => [g.clip(v!, -1, 1), g.clip(v!, undefined, 1), g.clip(v!, -1, undefined), g.clip(v!, undefined, undefined)],
			[x],
		);
		expect(results.map(toNumbers)).toEqual([
			[-1, 0, 1],
			[-2, 0, 1],
			[-1, 0, 2],
			[-2, 0, 2],
		]);
	});

	it('passes the gradient at a bound, like inside it', () => {
		const [dx] = run(
			(g, x) => gradients(g, [{ value: g.clip(x!, -1, 1), grad: g.constant(f64([5, 6, 7, 8])) }], [x!]).flatMap((v) => v ?? []),
			[f64([-1.5, -1, 0, 1])],
		);
		expect(toNumbers(dx!)).toEqual([0, 6, 7, 8]);
	});

	it('says what does not fit', () => {
		expect(graphError((g, x, low) => g.emit('Clip', [x, low]), [{ shape: [2] }, { shape: [2] }])).toMatch(
			/input 1 \(min\) is not a scalar/,
		);
		expect(graphError((g, x, high) => g.emit('Clip', [x, undefined, high]), [{ shape: [2] }, { shape: [], dtype: 'float64' }])).toMatch(
			/types differ/,
		);
		expect(graphError((g, x) => g.clip(x!, undefined, undefined), [{ shape: [2], dtype: 'bool' }])).toMatch(/a numeric type/);
	});
});
