/** @file Index operators: values written by hand, agreement of gathering and scattering, and errors. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { sizeOf, type Tensor, tensor, toNumbers } from '../../../src/core/tensor.ts';
import { onnxElementType } from '../../../src/graph/builder/elementwise.ts';
import { createBuilder, type GraphBuilder } from '../../../src/graph/builder.ts';
import { gatherND } from '../../../src/graph/ops/gather.ts';
import type { Value } from '../../../src/graph/types.ts';
import { gradcheck, run } from '../../helpers/gradcheck.ts';

const counted = (...shape: number[]): Tensor => tensor('float32', shape, Array(sizeOf(shape)).keys());
const ints = (shape: readonly number[], ...values: number[]): Tensor => tensor('int64', shape, values);
const numbers = (build: (g: GraphBuilder, ...xs: Value[]) => Value, ...xs: Tensor[]) => toNumbers(run(build, xs)[0]!);
const failing = (build: (g: GraphBuilder, x: Value, i: Value) => unknown, shape: readonly number[], indices: readonly number[]) => () => {
	const g = createBuilder('t');
	build(g, g.input('x', 'float32', shape), g.input('i', 'int64', indices));
};

describe('gathering', () => {
	it('takes rows along an axis, counting negative indices from the end', () => {
		expect(numbers((g, x, i) => g.gather(x!, i!), counted(3, 2), ints([2], -1, 0))).toEqual([4, 5, 0, 1]);
		const [y] = run((g, x, i) => g.gather(x!, i!, 1), [counted(2, 3), ints([1, 2], 2, 0)]);
		expect(y!.shape).toEqual([2, 1, 2]);
		expect(toNumbers(y!)).toEqual([2, 0, 5, 3]);
		expect(run((g, x, i) => g.gather(x!, i!, 1), [counted(2, 3), ints([], 1)])[0]!.shape).toEqual([2]);
	});

	it('takes single elements along an axis', () => {
		expect(numbers((g, x, i) => g.gatherElements(x!, i!, 1), counted(2, 3), ints([2, 2], 0, -1, 2, 2))).toEqual([0, 2, 5, 5]);
		expect(numbers((g, x, i) => g.gatherElements(x!, i!, 0), counted(2, 3), ints([1, 2], 1, 0))).toEqual([3, 1]);
	});

	it('takes slices at index tuples', () => {
		expect(numbers((g, x, i) => gatherND(g, x!, i!), counted(2, 3), ints([2, 2], 0, 1, -1, -1))).toEqual([1, 5]);
		expect(numbers((g, x, i) => gatherND(g, x!, i!), counted(2, 2, 2), ints([1, 2], 1, 0))).toEqual([4, 5]);
		expect(numbers((g, x, i) => gatherND(g, x!, i!), counted(2, 2), ints([2, 1], -1, 0))).toEqual([2, 3, 0, 1]);
	});

	it('throws on an index out of range', () => {
		expect(() => numbers((g, x, i) => g.gather(x!, i!), counted(3), ints([1], 3))).toThrow(
			'Gather: index 3 is out of range\n  expected: -3 to 2',
		);
		expect(() => numbers((g, x, i) => g.gatherElements(x!, i!), counted(3), ints([1], -4))).toThrow('GatherElements: index -4');
	});

	it('sums the gradients of repeated rows', () => {
		const repeated = { shape: [4], values: [1, 1, -1, 1], dtype: 'int64' } as const;
		gradcheck((g, x, i) => g.mul(g.gather(x!, i!), g.gather(x!, i!)), [{ shape: [3, 2] }, repeated]);
		gradcheck((g, x, i) => g.gather(x!, i!, 2), [{ shape: [2, 2, 3, 2] }, { ...repeated, shape: [2, 2] }]);
	});

	it('says what does not fit', () => {
		const floats = () => {
			const g = createBuilder('t');
			g.gather(g.input('x', 'float32', [2]), g.input('i', 'float32', [1]));
		};
		expect(floats).toThrow('indices are float32[1]\n  expected: int32 or int64');
		expect(failing((g, x, i) => g.gather(x, i, 2), [2, 3], [1])).toThrow('axis 2 is out of range');
		expect(failing((g, x, i) => g.gather(x, i), [], [1])).toThrow('a scalar cannot be indexed');
		expect(failing((g, x, i) => g.gatherElements(x, i), [2, 3], [2])).toThrow('rank of the data');
		expect(failing((g, x, i) => g.gatherElements(x, i, 0), [2, 3], [2, 4])).toThrow('reach beyond the data outside axis 0');
	});
});

describe('scattering', () => {
	const none = ints([1], 0);

	it('replaces or adds elements', () => {
		const build =
			(reduction: 'none' | 'add') =>
			(g: GraphBuilder, ...[x, i, u]: Value[]) =>
				g.scatterElements(x!, i!, u!, 1, reduction);
		const [x, i, u] = [counted(1, 4), ints([1, 2], 1, -1), counted(1, 2)];
		expect(numbers(build('none'), x, i, u)).toEqual([0, 0, 2, 1]);
		expect(numbers(build('add'), x, ints([1, 2], 1, 1), tensor('float32', [1, 2], [10, 20]))).toEqual([0, 31, 2, 3]);
	});

	it('replaces or adds slices', () => {
		const build =
			(reduction: 'none' | 'add') =>
			(g: GraphBuilder, ...[x, i, u]: Value[]) =>
				g.scatterND(x!, i!, u!, reduction);
		expect(numbers(build('none'), counted(2, 2), ints([1, 1], -1), tensor('float32', [1, 2], [7, 8]))).toEqual([0, 1, 7, 8]);
		const twice = ints([2, 2], 0, 1, 0, 1);
		expect(numbers(build('add'), counted(2, 2), twice, tensor('float32', [2], [10, 20]))).toEqual([0, 31, 2, 3]);
	});

	it('puts back what was gathered', () => {
		const cases = fc.tuple(fc.integer({ min: 1, max: 4 }), fc.integer({ min: 1, max: 3 })).chain(([rows, columns]) =>
			fc.record({
				rows: fc.constant(rows),
				columns: fc.constant(columns),
				order: fc.shuffledSubarray([...Array(rows).keys()], { minLength: rows }),
			}),
		);
		fc.assert(
			fc.property(cases, ({ rows, columns, order }) => {
				const x = counted(rows, columns);
				const [y] = run(
					(g, v, i) => {
						const zero = g.mul(v!, 0);
						return g.scatterND(zero, g.unsqueeze(i!, [1]), g.gather(v!, i!));
					},
					[x, ints([rows], ...order)],
				);
				expect(y).toEqual(x);
			}),
		);
	});

	it('leaves its input alone', () => {
		const x = counted(3);
		run((g, v, i, u) => [g.scatterElements(v!, i!, u!), g.scatterElements(v!, i!, u!, 0, 'add')], [x, none, tensor('float32', [1], [5])]);
		expect(toNumbers(x)).toEqual([0, 1, 2]);
	});

	it('throws on an index out of range', () => {
		const one = tensor('float32', [1], [5]);
		expect(() => numbers((g, x, i, u) => g.scatterElements(x!, i!, u!), counted(2), ints([1], 2), one)).toThrow('ScatterElements: index 2');
		expect(() => numbers((g, x, i, u) => g.scatterND(x!, i!, u!), counted(2), ints([1, 1], -3), one)).toThrow('ScatterND: index -3');
	});

	it('has gradients for index tuples given when the graph runs', () => {
		gradcheck(
			(g, x, i, u) => g.scatterND(x!, i!, u!),
			[{ shape: [2, 3, 2] }, { shape: [2, 2], values: [0, 2, -1, -3], dtype: 'int64' }, { shape: [2, 2] }],
		);
	});

	it('says what does not fit', () => {
		const updates = (g: GraphBuilder, ...shape: number[]) => g.input('u', 'float32', shape);
		expect(failing((g, x, i) => g.one('ScatterND', [x, i, updates(g, 1)], { reduction: 'mul' }), [2], [1, 1])).toThrow(
			'reduction mul is not supported',
		);
		expect(failing((g, x, i) => g.scatterND(x, i, updates(g, 2)), [4, 3], [2, 1])).toThrow(
			'updates do not fit indices and data\n  expected: [2,3]',
		);
		expect(failing((g, x, i) => g.scatterND(x, i, updates(g, 2)), [4], [2, 2])).toThrow('index tuples of 2 entries');
		expect(failing((g, x, i) => g.scatterElements(x, i, updates(g, 3)), [4], [2])).toThrow('shape of the indices\n  expected: [2]');
		expect(failing((g, x, i) => g.scatterElements(x, i, g.input('u', 'float64', [2])), [4], [2])).toThrow('another element type');
	});
});

describe('generators', () => {
	it('marks indices, and nothing where they are out of range', () => {
		expect(numbers((g, i) => g.oneHot(i!, 3, 0, 1), ints([3], 1, -1, 3))).toEqual([0, 1, 0, 0, 0, 1, 0, 0, 0]);
		const [y] = run((g, i) => g.oneHot(i!, 3, -1, 2, 0), [ints([2], 0, 2)]);
		expect(y!.shape).toEqual([3, 2]);
		expect(toNumbers(y!)).toEqual([2, -1, -1, -1, -1, 2]);
	});

	it('keeps a triangle', () => {
		expect(numbers((g, x) => g.trilu(x!, true), counted(2, 3))).toEqual([0, 1, 2, 0, 4, 5]);
		expect(numbers((g, x) => g.trilu(x!, false, -1), counted(2, 2, 2))).toEqual([0, 0, 2, 0, 0, 0, 6, 0]);
		expect(numbers((g, x) => g.one('Trilu', [x]), counted(2, 2))).toEqual([0, 1, 0, 3]);
	});

	it('gives the shape, or a part of it', () => {
		const shape = (attributes: Record<string, number>) => numbers((g, x) => g.one('Shape', [x], attributes), counted(2, 3, 4));
		expect(shape({})).toEqual([2, 3, 4]);
		expect(shape({ start: -2, end: 9 })).toEqual([3, 4]);
		expect(shape({ start: 2, end: 1 })).toEqual([]);
	});

	it('fills a shape with a number of a type', () => {
		const [y] = run((g) => g.one('ConstantOfShape', [g.ints([2, 1])], { value: 1, dtype: onnxElementType.bool }), []);
		expect(y).toEqual(tensor('bool', [2, 1], [1, 1]));
		expect(run((g) => g.one('ConstantOfShape', [g.ints([2])]), [])[0]).toEqual(tensor('float32', [2], [0, 0]));
	});

	it('counts up and down, exclusive of the limit', () => {
		const count = (start: number, limit: number, delta: number) =>
			numbers((g) => g.one('Range', [g.scalar(start), g.scalar(limit), g.scalar(delta)]));
		expect(count(1, 2, 0.25)).toEqual([1, 1.25, 1.5, 1.75]);
		expect(count(5, 0, -2)).toEqual([5, 3, 1]);
		expect(count(5, 0, 2)).toEqual([]);
	});

	it('say what does not fit', () => {
		const g = createBuilder('t');
		const i = g.input('i', 'int64', [2]);
		expect(() => g.oneHot(i, 0, 0, 1)).toThrow('depth is 0');
		expect(() => g.one('OneHot', [i, g.scalar(3, 'int64'), g.scalar(1)])).toThrow('values (input 2) must be off and on');
		expect(() => g.trilu(i, true)).toThrow('at least two axes');
		expect(() => g.one('Trilu', [g.input('m', 'float32', [2, 2]), g.scalar(1)])).toThrow('one int64 number');
		expect(() => g.one('ConstantOfShape', [g.ints([2])], { dtype: 8 })).toThrow('element type 8 is not supported');
		expect(() => g.one('ConstantOfShape', [g.ints([-2])])).toThrow('negative dimension');
		expect(() => g.one('Range', [g.scalar(0), g.scalar(1), g.scalar(0)])).toThrow('delta is 0');
		expect(() => g.one('Range', [g.scalar(0), g.scalar(1, 'int64'), g.scalar(1)])).toThrow('element types differ');
		expect(() => g.one('Range', [g.scalar(0), g.input('n', 'float32', []), g.scalar(1)])).toThrow('must be a constant');
	});
});
