/** @file Matrix products: values, errors, multiply-accumulates. */
import { describe, expect, it } from 'vitest';
import { tensor, toNumbers } from '../../../src/core/tensor.ts';
import { createBuilder } from '../../../src/graph/builder.ts';
import { gradients } from '../../../src/graph/differentiate.ts';
import { readAttributes } from '../../../src/graph/op.ts';
import { ops } from '../../../src/graph/ops/index.ts';
import { run } from '../../helpers/gradcheck.ts';
import { graphError } from '../../helpers/graph-error.ts';

const f64 = (shape: number[], values: number[]) => tensor('float64', shape, values);

describe('MatMul', () => {
	it('multiplies matrices', () => {
		const [y] = run((g, a, b) => g.matMul(a!, b!), [f64([2, 3], [1, 2, 3, 4, 5, 6]), f64([3, 2], [1, 0, 0, 1, 2, 2])]);
		expect(y!.shape).toEqual([2, 2]);
		expect(toNumbers(y!)).toEqual([7, 8, 16, 17]);
	});

	it('broadcasts batch axes', () => {
		const [y] = run((g, a, b) => g.matMul(a!, b!), [f64([2, 1, 1, 2], [1, 2, 3, 4]), f64([2, 2, 1], [1, 1, 2, 0])]);
		expect(y!.shape).toEqual([2, 2, 1, 1]);
		expect(toNumbers(y!)).toEqual([3, 2, 7, 6]);
	});

	it('says what does not fit', () => {
		const product = (shapes: number[][]) =>
			graphError(
				(g, a, b) => g.matMul(a!, b!),
				shapes.map((shape) => ({ shape })),
			);
		expect(
			product([
				[2, 3],
				[4, 2],
			]),
		).toMatch(/inner dimensions differ[\s\S]*expected: 3 rows/);
		expect(
			product([
				[2, 2, 3],
				[3, 3, 2],
			]),
		).toMatch(/batch axes do not broadcast/);
		expect(product([[3], [3, 2]])).toMatch(/at least two axes/);
		expect(graphError((g, a, b) => g.matMul(a!, b!), [{ shape: [2, 2] }, { shape: [2, 2], dtype: 'float64' }])).toMatch(
			/element types differ/,
		);
	});

	it('has a gradient without steps that change nothing', () => {
		const operators = (a: number[], b: number[]) => {
			const g = createBuilder('product');
			const [x, w] = [g.input('x', 'float32', a), g.input('w', 'float32', b)];
			const y = g.matMul(x, w);
			gradients(g, [{ value: y, grad: g.input('dy', 'float32', y.shape) }], [x, w]);
			return g.nodes().map((n) => n.op);
		};
		expect(operators([2, 3], [3, 4])).toEqual(['MatMul', 'Transpose', 'MatMul', 'Transpose', 'MatMul']);
		// Both are flattened to rows: the one product is worth it.
		expect(operators([5, 2, 3], [3, 4])).toEqual(['MatMul', 'Transpose', 'MatMul', 'Reshape', 'Transpose', 'Reshape', 'MatMul']);
		expect(operators([5, 2, 3], [5, 3, 4])).toEqual(['MatMul', 'Transpose', 'MatMul', 'Transpose', 'MatMul']);
	});

	it('counts multiply-accumulates', () => {
		const type = (shape: number[]) => ({ dtype: 'float32' as const, shape });
		const attributes = readAttributes('MatMul', {}, {});
		expect(ops.MatMul.macs?.([type([4, 2, 3]), type([3, 5])], [type([4, 2, 5])], attributes)).toBe(4 * 2 * 5 * 3);
	});
});

describe('Gemm', () => {
	it('computes alpha op(a) op(b) + beta c', () => {
		const a = f64([3, 2], [1, 4, 2, 5, 3, 6]);
		const b = f64([2, 3], [1, 0, 2, 0, 1, 2]);
		const c = f64([2], [10, 20]);
		const [y] = run((g, x, w, bias) => g.gemm(x!, w!, bias!, { transA: true, transB: true, alpha: 2, beta: 0.5 }), [a, b, c]);
		expect(toNumbers(y!)).toEqual([19, 26, 37, 44]);
	});

	it('says what does not fit', () => {
		expect(graphError((g, a, b) => g.gemm(a!, b!), [{ shape: [2, 3] }, { shape: [2, 3] }])).toMatch(/inner dimensions differ/);
		expect(graphError((g, a, b) => g.gemm(a!, b!), [{ shape: [2, 3] }, { shape: [3, 4], dtype: 'float64' }])).toMatch(
			/element types differ\n {2}expected: float32 for every input/,
		);
		expect(graphError((g, a, b, c) => g.gemm(a!, b!, c!), [{ shape: [2, 3] }, { shape: [3, 4] }, { shape: [4], dtype: 'int32' }])).toMatch(
			/element types differ/,
		);
		expect(
			graphError(
				(g, a, b) => g.gemm(a!, b!),
				[
					{ shape: [2, 3], dtype: 'bool' },
					{ shape: [3, 4], dtype: 'bool' },
				],
			),
		).toMatch(/element type bool of input 0 is not supported/);
		expect(graphError((g, a, b) => g.gemm(a!, b!), [{ shape: [1, 2, 3] }, { shape: [3, 3] }])).toMatch(/must be matrices/);
		expect(graphError((g, a, b, c) => g.gemm(a!, b!, c!), [{ shape: [2, 3] }, { shape: [3, 4] }, { shape: [3] }])).toMatch(
			/does not broadcast to \[2,4\]/,
		);
	});
});
