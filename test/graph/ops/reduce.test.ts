/** @file Reductions, positions of maxima and running sums: values and errors. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { sizeOf, tensor, toNumbers } from '../../../src/core/tensor.ts';
import { gradients } from '../../../src/graph/differentiate.ts';
import type { OpKind } from '../../../src/graph/ops/kinds.ts';
import { expectClose } from '../../helpers/close.ts';
import { run } from '../../helpers/gradcheck.ts';
import { graphError } from '../../helpers/graph-error.ts';

const f64 = (shape: number[], values: number[]) => tensor('float64', shape, values);
const grid = f64([2, 3], [1, 2, 3, 4, 5, 6]);

describe('reductions', () => {
	it.each<[OpKind, number[], number[], number]>([
		['ReduceSum', [6, 15], [5, 7, 9], 21],
		['ReduceMean', [2, 5], [2.5, 3.5, 4.5], 3.5],
		['ReduceMax', [3, 6], [4, 5, 6], 6],
		['ReduceMin', [1, 4], [1, 2, 3], 1],
		['ReduceSumSquare', [14, 77], [17, 29, 45], 91],
	])('%s over rows, columns and everything', (op, rows, columns, everything) => {
		const results = run(
			(g, x) => [
				...g.emit(op, [x, g.ints([-1])]),
				...g.emit(op, [x, g.ints([0])], { keepdims: 0 }),
				...g.emit(op, [x], { keepdims: 0 }),
				...g.emit(op, [x, g.ints([])]),
			],
			[grid],
		);
		expect(results.map((t) => t.shape)).toEqual([[2, 1], [3], [], [1, 1]]);
		expect(results.map(toNumbers)).toEqual([rows, columns, [everything], [everything]]);
	});

	it('leave the shape alone with noop_with_empty_axes, but still square', () => {
		const options = { noop_with_empty_axes: 1 };
		const results = run(
			(g, x) => [...g.emit('ReduceMean', [x], options), ...g.emit('ReduceSumSquare', [x, g.ints([])], { ...options, keepdims: 0 })],
			[grid],
		);
		expect(results.map((t) => t.shape)).toEqual([
			[2, 3],
			[2, 3],
		]);
		expect(results.map(toNumbers)).toEqual([
			[1, 2, 3, 4, 5, 6],
			[1, 4, 9, 16, 25, 36],
		]);
	});

	it('over any axes equal one axis after another', () => {
		const shapes = fc.array(fc.integer({ min: 1, max: 3 }), { minLength: 1, maxLength: 4 });
		fc.assert(
			fc.property(shapes, fc.nat(15), fc.boolean(), (shape, bits, negative) => {
				const axes = shape.flatMap((_, i) => ((bits >> i) & 1 ? [i] : []));
				fc.pre(axes.length > 0);
				const x = f64(
					shape,
					Array.from({ length: sizeOf(shape) }, (_, i) => Math.sin(3 * i + 1)),
				);
				const named = negative ? axes.map((a) => a - shape.length) : axes;
				const [whole, steps] = run(
					(g, v) => [g.reduceSum(v!, named, false), axes.reduceRight((y, a) => g.reduceSum(y, [a], false), v!)],
					[x],
				);
				expect(whole!.shape).toEqual(steps!.shape);
				expectClose(whole!, steps!, { rtol: 1e-12, atol: 1e-12 });
			}),
			{ numRuns: 50 },
		);
	});

	it('share the gradient of an extreme among ties', () => {
		const [dx] = run(
			(g, x) => gradients(g, [{ value: g.reduceMax(x!, [1], false), grad: g.constant(f64([2], [6, 8])) }], [x!]).flatMap((v) => v ?? []),
			[f64([2, 3], [1, 5, 5, 9, 0, 2])],
		);
		expect(toNumbers(dx!)).toEqual([0, 3, 3, 8, 0, 0]);
	});

	it('say what does not fit', () => {
		const x = { shape: [2, 3] };
		expect(graphError((g, v) => g.reduceSum(v!, [2]), [x])).toMatch(/axis 2 is out of range\n.*expected: -2 to 1/);
		expect(graphError((g, v) => g.reduceSum(v!, [1, -1]), [x])).toMatch(/an axis is named twice/);
		expect(graphError((g, v, a) => g.emit('ReduceSum', [v, a]), [x, { shape: [1], dtype: 'int64' }])).toMatch(/must be a constant/);
		expect(graphError((g, v) => g.emit('ReduceSum', [v, g.scalar(0)]), [x])).toMatch(
			/not a vector of whole numbers\n.*expected: int64\[n\]/,
		);
		expect(graphError((g, v) => g.reduceMax(v!, [0]), [{ shape: [0, 3] }])).toMatch(/a reduced axis is empty/);
		expect(graphError((g, v) => g.reduceSum(v!, [0]), [{ shape: [2], dtype: 'bool' }])).toMatch(/a numeric type/);
	});
});

describe('ArgMax', () => {
	it('gives the first or last position of the maximum', () => {
		const x = f64([2, 3], [1, 7, 7, 4, 0, 4]);
		const results = run(
			(g, v) => [g.argMax(v!, -1), g.argMax(v!, 0, false), ...g.emit('ArgMax', [v], { axis: 1, keepdims: 0, select_last_index: 1 })],
			[x],
		);
		expect(results.map((t) => [t.dtype, ...t.shape])).toEqual([
			['int64', 2, 1],
			['int64', 3],
			['int64', 2],
		]);
		expect(results.map(toNumbers)).toEqual([
			[1, 0],
			[1, 0, 0],
			[2, 2],
		]);
	});

	it('says what does not fit', () => {
		expect(graphError((g, x) => g.argMax(x!, 2), [{ shape: [2, 3] }])).toMatch(/axis 2 is out of range/);
		expect(graphError((g, x) => g.argMax(x!, 0), [{ shape: [0, 3] }])).toMatch(/axis 0 is empty/);
	});
});

describe('CumSum', () => {
	it('runs along an axis, from either end, with or without the element itself', () => {
		const x = f64([2, 3], [1, 2, 3, 4, 5, 6]);
		const results = run(
			(g, v) => [g.cumSum(v!, 1), g.cumSum(v!, 0), g.cumSum(v!, -1, true), g.cumSum(v!, 1, false, true), g.cumSum(v!, 1, true, true)],
			[x],
		);
		expect(results.map(toNumbers)).toEqual([
			[1, 3, 6, 4, 9, 15],
			[1, 2, 3, 5, 7, 9],
			[0, 1, 3, 0, 4, 9],
			[6, 5, 3, 15, 11, 6],
			[5, 3, 0, 11, 6, 0],
		]);
	});

	it('says what does not fit', () => {
		expect(graphError((g, x) => g.cumSum(x!, 3), [{ shape: [2, 3] }])).toMatch(/axis 3 is out of range/);
		expect(graphError((g, x) => g.emit('CumSum', [x, g.ints([0, 1])]), [{ shape: [2, 3] }])).toMatch(/the axis is not one whole number/);
		expect(graphError((g, x, a) => g.emit('CumSum', [x, a]), [{ shape: [2] }, { shape: [], dtype: 'int64' }])).toMatch(
			/must be a constant/,
		);
	});
});
