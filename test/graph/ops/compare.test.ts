/** @file Comparisons, logic and selection: values and errors. */
import { describe, expect, it } from 'vitest';
import { tensor, toNumbers } from '../../../src/core/tensor.ts';
import { createBuilder } from '../../../src/graph/builder.ts';
import { gradients } from '../../../src/graph/differentiate.ts';
import { run } from '../../helpers/gradcheck.ts';
import { graphError } from '../../helpers/graph-error.ts';

const f64 = (shape: number[], values: number[]) => tensor('float64', shape, values);
const bool = (shape: number[], values: number[]) => tensor('bool', shape, values);

describe('comparisons', () => {
	const a = f64([3], [1, 2, 3]);
	const b = f64([3], [2, 2, 2]);
	it.each([
		['equal', [0, 1, 0]],
		['less', [1, 0, 0]],
		['greater', [0, 0, 1]],
		['lessOrEqual', [1, 1, 0]],
		['greaterOrEqual', [0, 1, 1]],
	] as const)('%s gives bool', (name, expected) => {
		const [y] = run((g, x, z) => g[name](x!, z!), [a, b]);
		expect(y!.dtype).toBe('bool');
		expect(toNumbers(y!)).toEqual(expected);
	});

	it('are false for NaN', () => {
		const nan = f64([1], [Number.NaN]);
		const results = run((g, x) => [g.equal(x!, x!), g.less(x!, 1), g.greaterOrEqual(x!, 1)], [nan]);
		expect(results.flatMap(toNumbers)).toEqual([0, 0, 0]);
	});

	it('reject bool where order has no meaning, and mixed types', () => {
		const flags = { shape: [2], dtype: 'bool' } as const;
		expect(graphError((g, x, y) => g.less(x!, y!), [flags, flags])).toMatch(
			/Less.*element type bool of input 0 is not supported\n.*expected: a numeric type/,
		);
		expect(graphError((g, x, y) => g.equal(x!, y!), [{ shape: [2] }, { shape: [2], dtype: 'int64' }])).toMatch(/element types differ/);
		expect(graphError((g, x, y) => g.greater(x!, y!), [{ shape: [2] }, { shape: [3] }])).toMatch(/does not broadcast/);
	});
});

describe('logic', () => {
	it('has the truth tables', () => {
		const inputs = [bool([2, 1], [0, 1]), bool([2], [0, 1])];
		const [and, or, not] = run((g, x, y) => [g.and(x!, y!), g.or(x!, y!), g.not(y!)], inputs);
		expect(toNumbers(and!)).toEqual([0, 0, 0, 1]);
		expect(toNumbers(or!)).toEqual([0, 1, 1, 1]);
		expect(toNumbers(not!)).toEqual([1, 0]);
	});

	it('takes bool alone', () => {
		expect(graphError((g, x, y) => g.and(x!, y!), [{ shape: [2] }, { shape: [2] }])).toMatch(/expected: bool/);
		expect(graphError((g, x) => g.not(x!), [{ shape: [2], dtype: 'uint8' }])).toMatch(/expected: bool/);
	});
});

describe('Where', () => {
	it('selects and broadcasts all three', () => {
		const [y] = run((g, c, a, b) => g.where(c!, a!, b!), [bool([2, 1], [1, 0]), f64([3], [1, 2, 3]), f64([], [9])]);
		expect(y!.shape).toEqual([2, 3]);
		expect(toNumbers(y!)).toEqual([1, 2, 3, 9, 9, 9]);
	});

	it('gives no gradient to the condition', () => {
		const g = createBuilder('where');
		const x = g.input('x', 'float32', [2]);
		const y = g.where(g.greater(x, 0), 1, 2);
		expect(gradients(g, [{ value: y, grad: g.input('dy', 'float32', [2]) }], [x])).toEqual([undefined]);
	});

	it('says what does not fit', () => {
		const x = { shape: [2] };
		expect(graphError((g, c, a, b) => g.where(c!, a!, b!), [x, x, x])).toMatch(/the condition is float32\n.*expected: bool/);
		expect(graphError((g, c, a, b) => g.where(c!, a!, b!), [{ shape: [3], dtype: 'bool' }, x, x])).toMatch(/condition does not broadcast/);
		expect(graphError((g, c, a, b) => g.where(c!, a!, b!), [{ shape: [2], dtype: 'bool' }, x, { shape: [3] }])).toMatch(
			/does not broadcast with/,
		);
		expect(graphError((g, c, a, b) => g.where(c!, a!, b!), [{ shape: [2], dtype: 'bool' }, x, { shape: [2], dtype: 'int32' }])).toMatch(
			/types differ/,
		);
	});
});
