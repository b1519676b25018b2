/** @file Shape operators: values written by hand, round trips, and errors. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { sizeOf, type Tensor, tensor, toNumbers } from '../../../src/core/tensor.ts';
import { createBuilder, type GraphBuilder } from '../../../src/graph/builder.ts';
import { gradients } from '../../../src/graph/differentiate.ts';
import type { Value } from '../../../src/graph/types.ts';
import { gradcheck, run } from '../../helpers/gradcheck.ts';

/** 0, 1, 2, ... in a shape. */
const counted = (...shape: number[]): Tensor => tensor('int64', shape, Array(sizeOf(shape)).keys());
const apply = (x: Tensor, build: (g: GraphBuilder, x: Value) => Value): Tensor => run((g, v) => build(g, v!), [x])[0]!;
const numbers = (x: Tensor, build: (g: GraphBuilder, x: Value) => Value) => toNumbers(apply(x, build));
const failing = (shape: readonly number[], build: (g: GraphBuilder, x: Value) => unknown) => () => {
	const g = createBuilder('t');
	build(g, g.input('x', 'float32', shape));
};

const shapes = fc.array(fc.integer({ min: 0, max: 4 }), { minLength: 1, maxLength: 4 });
const withAxis = shapes.chain((shape) =>
	fc.record({ shape: fc.constant(shape), axis: fc.integer({ min: -shape.length, max: shape.length - 1 }) }),
);

describe('views', () => {
	it('infer the open dimension, copied ones and empty ones', () => {
		const reshape = (to: readonly number[], allowzero: number, ...from: number[]) =>
			apply(counted(...from), (g, x) => g.one('Reshape', [x, g.ints(to)], { allowzero })).shape;
		expect(reshape([-1, 4], 0, 2, 6)).toEqual([3, 4]);
		expect(reshape([0, 3, -1], 0, 2, 6)).toEqual([2, 3, 2]);
		expect(reshape([4, 0], 1, 0, 3)).toEqual([4, 0]);
		expect(reshape([], 0, 1, 1)).toEqual([]);
	});

	it('are built with 0 as an empty dimension, never a copied one', () => {
		const reshape = (to: readonly number[], ...from: number[]) => apply(counted(...from), (g, x) => g.reshape(x, to)).shape;
		expect(reshape([5, 0, 2], 0, 3)).toEqual([5, 0, 2]);
		expect(reshape([4, 0], 0, 7)).toEqual([4, 0]);
		expect(reshape([-1, 3], 0, 3)).toEqual([0, 3]);
		expect(reshape([2, -1], 0, 7)).toEqual([2, 0]);
		expect(reshape([-1, 4], 2, 6)).toEqual([3, 4]);
		const back = (g: GraphBuilder, x: Value) =>
			gradients(g, [{ value: g.reshape(x, [5, 0]), grad: g.input('dy', 'float32', [5, 0]) }], [x])[0]!;
		const g = createBuilder('empty');
		expect(back(g, g.input('x', 'float32', [0, 3])).shape).toEqual([0, 3]);
	});

	it('keep the order of the elements', () => {
		const x = counted(2, 1, 3);
		for (const build of [
			(g: GraphBuilder, v: Value) => g.reshape(v, [3, 2]),
			(g: GraphBuilder, v: Value) => g.squeeze(v, [1]),
			(g: GraphBuilder, v: Value) => g.unsqueeze(v, [0, -1]),
			(g: GraphBuilder, v: Value) => g.flatten(v, 2),
		]) {
			expect(numbers(x, build)).toEqual([0, 1, 2, 3, 4, 5]);
		}
	});

	it('give shapes as ONNX says', () => {
		const shape = (build: (g: GraphBuilder, x: Value) => Value, ...from: number[]) => apply(counted(...from), build).shape;
		expect(shape((g, x) => g.unsqueeze(x, [3, 0]), 2, 3)).toEqual([1, 2, 3, 1]);
		expect(shape((g, x) => g.one('Squeeze', [x]), 1, 2, 1)).toEqual([2]);
		expect(shape((g, x) => g.flatten(x, 0), 2, 3)).toEqual([1, 6]);
		expect(shape((g, x) => g.flatten(x, -1), 2, 3, 4)).toEqual([6, 4]);
		expect(shape((g, x) => g.flatten(x, 3), 2, 3, 4)).toEqual([24, 1]);
	});

	it('say what does not fit', () => {
		expect(failing([2, 3], (g, x) => g.one('Reshape', [x, g.ints([4, -1])]))).toThrow('6 elements do not fill shape [4,-1]');
		expect(failing([2, 3], (g, x) => g.reshape(x, [4, -1]))).toThrow('6 elements do not fill shape [4,-1]');
		expect(failing([2, 3], (g, x) => g.reshape(x, [0, 3]))).toThrow('6 elements do not fill shape [0,3]');
		for (const shape of [
			[0, 3],
			[2, 3],
		]) {
			expect(failing(shape, (g, x) => g.reshape(x, [-1, 0]))).toThrow('shape [-1,0] leaves a dimension open beside an empty one');
		}
		expect(failing([2, 3], (g, x) => g.one('Reshape', [x, g.ints([-1, -1])]))).toThrow('more than one dimension open');
		expect(failing([2, 3], (g, x) => g.reshape(x, [-1, -1, 6]))).toThrow('shape [-1,-1,6] leaves more than one dimension open');
		expect(failing([2], (g, x) => g.one('Reshape', [x, g.ints([1, 0])]))).toThrow('copies axis 1');
		expect(failing([2, 3], (g, x) => g.one('Reshape', [x, g.ints([-2, 3])]))).toThrow('negative dimension');
		expect(failing([2, 3], (g, x) => g.one('Reshape', [x, g.input('s', 'int64', [2])]))).toThrow('must be a constant');
		expect(failing([2, 1], (g, x) => g.squeeze(x, [0]))).toThrow('axis 0 has 2 entries');
		expect(failing([2, 1], (g, x) => g.unsqueeze(x, [0, 0]))).toThrow('axes [0,0] repeat');
		expect(failing([2, 1], (g, x) => g.unsqueeze(x, [4]))).toThrow('axis 4 is out of range');
		expect(failing([2, 1], (g, x) => g.flatten(x, 3))).toThrow('axis 3 is out of range');
	});
});

describe('Transpose', () => {
	it('moves elements to their new places', () => {
		expect(numbers(counted(2, 3), (g, x) => g.transpose(x, [1, 0]))).toEqual([0, 3, 1, 4, 2, 5]);
		expect(numbers(counted(2, 1, 3), (g, x) => g.transpose(x, [2, 0, 1]))).toEqual([0, 3, 1, 4, 2, 5]);
	});

	it('is undone by the inverse permutation', () => {
		const cases = shapes.chain((shape) =>
			fc.record({ shape: fc.constant(shape), perm: fc.shuffledSubarray([...shape.keys()], { minLength: shape.length }) }),
		);
		fc.assert(
			fc.property(cases, ({ shape, perm }) => {
				const inverse = perm.map((_, i) => perm.indexOf(i));
				const x = counted(...shape);
				expect(apply(x, (g, v) => g.transpose(g.transpose(v, perm), inverse))).toEqual(x);
			}),
		);
	});

	it('refuses what is no permutation', () => {
		expect(failing([2, 3], (g, x) => g.transpose(x, [0, 0]))).toThrow('perm [0,0] does not name every axis once');
		expect(failing([2, 3], (g, x) => g.transpose(x, [0]))).toThrow('perm [0]');
	});
});

describe('Concat and Split', () => {
	it('undo each other along any axis', () => {
		const cases = withAxis.chain(({ shape, axis }) => {
			const length = shape.at(axis)!;
			return fc.record({
				shape: fc.constant(shape),
				axis: fc.constant(axis),
				cuts: fc.array(fc.integer({ min: 0, max: length }), { maxLength: 3 }).map((c) => [0, ...c.sort((a, b) => a - b), length]),
			});
		});
		fc.assert(
			fc.property(cases, ({ shape, axis, cuts }) => {
				const sizes = cuts.slice(1).map((c, i) => c - cuts[i]!);
				const x = counted(...shape);
				expect(apply(x, (g, v) => g.one('Concat', g.split(v, sizes, axis), { axis }))).toEqual(x);
			}),
		);
	});

	it('cut into equal pieces by num_outputs, the last smaller', () => {
		const pieces = run((g, x) => g.emit('Split', [x], { axis: 1, num_outputs: 3 }, 3), [counted(2, 5)]);
		expect(pieces.map((p) => toNumbers(p))).toEqual([
			[0, 1, 5, 6],
			[2, 3, 7, 8],
			[4, 9],
		]);
	});

	it('give the gradient to the pieces that need or have one', () => {
		gradcheck((g, x) => g.split(x!, [1, 2, 1], 0)[2]!, [{ shape: [4, 2] }]);
		gradcheck(
			(g, x) => {
				const [a, , c] = g.split(x!, [1, 2, 1], 0);
				return g.mul(a!, c!);
			},
			[{ shape: [4, 2] }],
		);
		gradcheck(
			(g, x) =>
				g.concat(
					[g.scalar(1, 'float64'), x!].map((v) => g.reshape(v, [1, -1])),
					1,
				),
			[{ shape: [3] }],
		);
	});

	it('say what does not fit', () => {
		const two = (a: readonly number[], b: readonly number[], axis: number) => () => {
			const g = createBuilder('t');
			g.concat([g.input('a', 'float32', a), g.input('b', 'float32', b)], axis);
		};
		expect(two([2, 3], [2, 4], 0)).toThrow('input 1 differs outside axis 0\n  expected: [?,3]');
		expect(two([2, 3], [2], 0)).toThrow('input 1 differs');
		expect(two([2, 3], [2, 3], 2)).toThrow('axis 2 is out of range');
		expect(two([], [], 0)).toThrow('scalars cannot be joined');
		expect(failing([5], (g, x) => g.split(x, [2, 2], 0))).toThrow('sizes [2,2] do not add up to axis 0\n  expected: 5');
		expect(failing([5], (g, x) => g.emit('Split', [x], {}, 2))).toThrow('neither or twice');
		expect(failing([5], (g, x) => g.emit('Split', [x, g.ints([2, 3])], { num_outputs: 2 }, 2))).toThrow('neither or twice');
		expect(failing([5], (g, x) => g.emit('Split', [x], { num_outputs: 3 }, 2))).toThrow('3 pieces for 2 outputs');
	});
});

describe('Slice', () => {
	const bound = fc.integer({ min: -9, max: 9 });
	const step = fc.integer({ min: -3, max: 3 }).filter((s) => s !== 0);

	it('takes what a walk from start to end takes, as ONNX clamps it', () => {
		fc.assert(
			fc.property(fc.integer({ min: 0, max: 6 }), bound, bound, step, (length, start, end, by) => {
				const clamp = (at: number, low: number, high: number) => Math.min(Math.max(at < 0 ? at + length : at, low), high);
				const expected: number[] = [];
				if (by > 0) for (let i = clamp(start, 0, length); i < clamp(end, 0, length); i += by) expected.push(i);
				else if (length > 0) for (let i = clamp(start, 0, length - 1); i > clamp(end, -1, length - 1); i += by) expected.push(i);
				expect(numbers(counted(length), (g, x) => g.slice(x, [start], [end], [0], [by]))).toEqual(expected);
			}),
			{ numRuns: 300 },
		);
	});

	it('has the gradients of central differences for any bounds and steps', () => {
		fc.assert(
			fc.property(bound, bound, step, step, (start, end, by, other) => {
				gradcheck((g, x) => g.slice(x!, [start, 1], [end, -9], [1, -3], [by, other]), [{ shape: [3, 5, 2] }]);
			}),
			{ numRuns: 60 },
		);
	});

	it('gives zeros as the gradient of nothing taken', () => {
		const [dx] = run((g) => {
			const x = g.constant(tensor('float32', [2, 3], Array(6).fill(1)), 'x');
			const y = g.slice(x, [2], [1], [1]);
			return gradients(g, [{ value: y, grad: y }], [x])[0]!;
		}, []);
		expect(dx!.shape).toEqual([2, 3]);
		expect(toNumbers(dx!)).toEqual(Array(6).fill(0));
	});

	it('says what does not fit', () => {
		expect(failing([4, 4], (g, x) => g.slice(x, [0], [1, 2], [0]))).toThrow('differ in length');
		expect(failing([4, 4], (g, x) => g.slice(x, [0, 0], [1, 2], [0, -2]))).toThrow('axes [0,-2] repeat');
		expect(failing([4, 4], (g, x) => g.slice(x, [0], [1], [2]))).toThrow('axis 2 is out of range');
		expect(failing([4, 4], (g, x) => g.slice(x, [0], [1], [0], [0]))).toThrow('steps [0] has a zero');
		expect(failing([4], (g, x) => g.one('Slice', [x, g.ints([0, 0]), g.ints([1, 1])]))).toThrow('2 cuts for 1 axes');
	});
});

describe('Pad', () => {
	const row = counted(3);

	it('fills, mirrors or repeats', () => {
		expect(numbers(row, (g, x) => g.pad(x, [2, 1], 7))).toEqual([7, 7, 0, 1, 2, 7]);
		expect(numbers(row, (g, x) => g.pad(x, [2, 1], undefined, 'reflect'))).toEqual([2, 1, 0, 1, 2, 1]);
		expect(numbers(row, (g, x) => g.pad(x, [2, 1], undefined, 'edge'))).toEqual([0, 0, 0, 1, 2, 2]);
		expect(numbers(row, (g, x) => g.pad(x, [-1, 2]))).toEqual([1, 2, 0, 0]);
		expect(numbers(counted(2, 2), (g, x) => g.one('Pad', [x, g.ints([1, 0]), undefined, g.ints([-1])]))).toEqual([0, 0, 1, 0, 2, 3]);
	});

	it('is undone by the slice between', () => {
		fc.assert(
			fc.property(withAxis, fc.nat(3), fc.nat(3), ({ shape, axis }, before, after) => {
				const at = axis < 0 ? axis + shape.length : axis;
				const pads = [...shape.map((_, i) => (i === at ? before : 0)), ...shape.map((_, i) => (i === at ? after : 0))];
				const x = counted(...shape);
				expect(apply(x, (g, v) => g.slice(g.pad(v, pads, 9), [before], [before + shape[at]!], [at]))).toEqual(x);
			}),
		);
	});

	it('says what does not fit', () => {
		expect(failing([3], (g, x) => g.one('Pad', [x, g.ints([1, 1])], { mode: 'wrap' }))).toThrow('mode wrap is not supported');
		expect(failing([3], (g, x) => g.pad(x, [1]))).toThrow('1 pads given\n  expected: 2');
		expect(failing([3], (g, x) => g.pad(x, [3, 0], undefined, 'reflect'))).toThrow('reach beyond axis 0');
		expect(failing([3], (g, x) => g.pad(x, [-1, 0], undefined, 'edge'))).toThrow('cut entries off');
		expect(failing([3], (g, x) => g.pad(x, [-4, 4]))).toThrow('cut off more than axis 0 has');
		expect(failing([0], (g, x) => g.pad(x, [1, 0], undefined, 'edge'))).toThrow('axis 0 is empty');
		expect(failing([3], (g, x) => g.one('Pad', [x, g.ints([1, 1]), g.ints([1])]))).toThrow('the padding value');
	});
});

describe('repeating and rearranging', () => {
	it('repeats', () => {
		expect(numbers(counted(2, 1), (g, x) => g.expand(x, [2, 3]))).toEqual([0, 0, 0, 1, 1, 1]);
		expect(numbers(counted(2), (g, x) => g.expand(x, [2, 1]))).toEqual([0, 1, 0, 1]);
		expect(numbers(counted(2, 2), (g, x) => g.tile(x, [1, 2]))).toEqual([0, 1, 0, 1, 2, 3, 2, 3]);
		expect(numbers(counted(2), (g, x) => g.tile(x, [0]))).toEqual([]);
	});

	it('moves channels into space in both orders', () => {
		const x = counted(1, 8, 1, 1);
		expect(numbers(x, (g, v) => g.depthToSpace(v, 2))).toEqual([0, 2, 4, 6, 1, 3, 5, 7]);
		expect(numbers(x, (g, v) => g.depthToSpace(v, 2, 'CRD'))).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
	});

	it('moves space into channels and back', () => {
		const size = fc.integer({ min: 1, max: 3 });
		fc.assert(
			fc.property(size, size, size, size, (block, channels, height, width) => {
				const x = counted(2, channels, height * block, width * block);
				expect(apply(x, (g, v) => g.depthToSpace(g.spaceToDepth(v, block), block))).toEqual(x);
			}),
		);
	});

	it('says what does not fit', () => {
		expect(failing([2, 3], (g, x) => g.expand(x, [2, 2]))).toThrow('does not broadcast with shape [2,2]');
		expect(failing([2, 3], (g, x) => g.tile(x, [2]))).toThrow('1 repeats given');
		expect(failing([2, 3], (g, x) => g.tile(x, [2, -1]))).toThrow('negative count');
		expect(failing([1, 6, 2, 2], (g, x) => g.depthToSpace(x, 2))).toThrow('6 channels\n  expected: a multiple of blocksize squared, 4');
		expect(failing([1, 4, 3, 2], (g, x) => g.spaceToDepth(x, 2))).toThrow('height 3 and width 2');
		expect(failing([4, 2, 2], (g, x) => g.spaceToDepth(x, 2))).toThrow('four axes');
		expect(failing([1, 4, 2, 2], (g, x) => g.one('DepthToSpace', [x], { blocksize: 2, mode: 'XYZ' }))).toThrow('mode XYZ');
	});
});
