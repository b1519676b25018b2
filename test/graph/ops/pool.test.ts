/** @file Pooling and resizing: values written by hand, ties, and errors. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { tensor, toNumbers } from '../../../src/core/tensor.ts';
import { createBuilder, type GraphBuilder } from '../../../src/graph/builder.ts';
import { gradients } from '../../../src/graph/differentiate.ts';
import type { Attributes, Value } from '../../../src/graph/types.ts';
import { gradcheck, run } from '../../helpers/gradcheck.ts';

const f32 = (shape: readonly number[], ...values: number[]) => tensor('float32', shape, values);
const numbers = (build: (g: GraphBuilder, x: Value) => Value, x: ReturnType<typeof f32>) => toNumbers(run((g, v) => build(g, v!), [x])[0]!);

describe('pooling', () => {
	const line = f32([1, 1, 5], 1, 2, 4, 8, 16);

	it('averages, with or without the padding', () => {
		const window = { kernel: [3], strides: [2], pads: [1, 1] };
		expect(numbers((g, x) => g.averagePool(x, window), line)).toEqual([1.5, 14 / 3, 12].map(Math.fround));
		expect(numbers((g, x) => g.averagePool(x, { ...window, countIncludePad: true }), line)).toEqual([1, 14 / 3, 8].map(Math.fround));
	});

	it('takes the largest, dilated too', () => {
		expect(numbers((g, x) => g.maxPool(x, { kernel: [2] }), f32([1, 1, 4], 3, -1, -5, -2))).toEqual([3, -1, -2]);
		expect(numbers((g, x) => g.one('MaxPool', [x], { kernel_shape: [2], dilations: [2] }), f32([1, 1, 4], 3, -1, -5, -2))).toEqual([3, -1]);
	});

	it('averages each whole channel', () => {
		expect(numbers((g, x) => g.globalAveragePool(x), f32([1, 2, 2, 2], 1, 2, 3, 4, 10, 20, 30, 40))).toEqual([2.5, 25]);
	});

	it('has the gradients of central differences for any window', () => {
		const small = fc.integer({ min: 1, max: 3 });
		fc.assert(
			fc.property(
				fc.tuple(small, small),
				fc.tuple(small, small),
				fc.tuple(...[0, 1, 2, 3].map(() => fc.integer({ min: 0, max: 1 }))),
				fc.boolean(),
				(kernel, strides, pads, countIncludePad) => {
					fc.pre(pads.every((p, i) => p < kernel[i % 2]!));
					gradcheck((g, x) => g.averagePool(x!, { kernel, strides, pads, countIncludePad }), [{ shape: [1, 2, 4, 5] }]);
				},
			),
			{ numRuns: 25 },
		);
	});

	it('shares the gradient of a maximum evenly at ties', () => {
		const [dx] = run((g) => {
			const x = g.constant(f32([1, 1, 4], 7, 7, 1, 2), 'x');
			const y = g.maxPool(x, { kernel: [2], strides: [2] });
			return gradients(g, [{ value: y, grad: g.constant(f32([1, 1, 2], 6, 5), 'dy') }], [x])[0]!;
		}, []);
		expect(toNumbers(dx!)).toEqual([3, 3, 0, 5]);
	});

	it('says which windows have no gradient', () => {
		const g = createBuilder('t');
		const x = g.input('x', 'float32', [1, 1, 5]);
		const y = g.maxPool(x, { kernel: [3], strides: [2], pads: [1, 1] });
		expect(() => gradients(g, [{ value: y, grad: y }], [x])).toThrow(
			/gradient of MaxPool\(float32\[1,1,5\]\): no gradient for windows that overlap[\s\S]*kernel_shape \[3\], strides \[2\], pads \[1,1\]/,
		);
	});

	it('refuses what it does not do, by name', () => {
		const g = createBuilder('t');
		const x = g.input('x', 'float32', [1, 1, 5]);
		const pool = (attributes: Attributes) => () => g.one('AveragePool', [x], attributes);
		expect(pool({})).toThrow('attribute kernel_shape is missing');
		expect(pool({ kernel_shape: [2, 2] })).toThrow('kernel_shape [2,2]');
		expect(pool({ kernel_shape: [2], ceil_mode: 1 })).toThrow('ceil_mode 1 is not supported');
		expect(pool({ kernel_shape: [2], auto_pad: 'VALID' })).toThrow('auto_pad VALID');
		expect(pool({ kernel_shape: [2], pads: [2, 0] })).toThrow('pads [2,0] hold whole windows');
		expect(pool({ kernel_shape: [6] })).toThrow('the window covers 6 entries');
		expect(() => g.globalAveragePool(g.input('v', 'float32', [2, 2]))).toThrow('at least three axes');
	});
});

describe('Resize', () => {
	const line = f32([1, 1, 4], 1, 2, 3, 4);
	const to = (size: number, attributes: Attributes) => (g: GraphBuilder, x: Value) =>
		g.one('Resize', [x, undefined, undefined, g.ints([1, 1, size])], attributes);

	it('repeats entries by whole factors', () => {
		const image = f32([1, 1, 2, 2], 1, 2, 3, 4);
		expect(numbers((g, x) => g.upsampleNearest(x, [1, 1, 2, 2]), image)).toEqual([1, 1, 2, 2, 1, 1, 2, 2, 3, 3, 4, 4, 3, 3, 4, 4]);
	});

	it('finds the nearest entry as the modes say', () => {
		const nearest = (size: number, mode: string, nearest_mode: string) =>
			numbers(to(size, { mode: 'nearest', coordinate_transformation_mode: mode, nearest_mode }), line);
		expect(nearest(2, 'asymmetric', 'floor')).toEqual([1, 3]);
		// Coordinates 0.5 and 2.5: halves go down or up.
		expect(nearest(2, 'half_pixel', 'round_prefer_floor')).toEqual([1, 3]);
		expect(nearest(2, 'half_pixel', 'round_prefer_ceil')).toEqual([2, 4]);
		expect(nearest(2, 'align_corners', 'floor')).toEqual([1, 4]);
		// Coordinates 0, 0.8, 1.6, 2.4, 3.2: the last lies beyond the edge.
		expect(nearest(5, 'asymmetric', 'ceil')).toEqual([1, 2, 3, 4, 4]);
	});

	it('interpolates linearly as the modes say', () => {
		const linear = (size: number, coordinate_transformation_mode: string) =>
			numbers(to(size, { mode: 'linear', coordinate_transformation_mode }), line);
		expect(linear(8, 'half_pixel')).toEqual([1, 1.25, 1.75, 2.25, 2.75, 3.25, 3.75, 4]);
		expect(linear(7, 'align_corners')).toEqual([1, 1.5, 2, 2.5, 3, 3.5, 4]);
		expect(linear(8, 'asymmetric')).toEqual([1, 1.5, 2, 2.5, 3, 3.5, 4, 4]);
		expect(linear(1, 'align_corners')).toEqual([1]);
		expect(linear(1, 'half_pixel')).toEqual([2.5]);
		expect(linear(1, 'pytorch_half_pixel')).toEqual([1]);
	});

	it('rounds a scaled size as float32 does', () => {
		const g = createBuilder('t');
		const scales = g.constant(f32([3], 1, 1, 0.7));
		expect(g.one('Resize', [g.input('x', 'float32', [1, 1, 10]), undefined, scales]).shape).toEqual([1, 1, 7]);
	});

	it('keeps whole numbers whole with mode nearest', () => {
		const x = tensor('int64', [1, 1, 2], [2 ** 53, 5]);
		const [y] = run((g, v) => g.upsampleNearest(v!, [1, 1, 2]), [x]);
		expect([...(y!.data as BigInt64Array)]).toEqual([9007199254740992n, 9007199254740992n, 5n, 5n]);
	});

	it('sums blocks as the gradient of whole factors, without a matrix', () => {
		const g = createBuilder('t');
		const x = g.input('x', 'float32', [1, 2, 3, 3]);
		const y = g.upsampleNearest(x, [1, 1, 2, 2]);
		gradients(g, [{ value: y, grad: y }], [x]);
		expect(g.nodes().map((n) => n.op)).toEqual(['Resize', 'Reshape', 'ReduceSum']);
	});

	it('refuses what it does not do, by name', () => {
		const g = createBuilder('t');
		const x = g.input('x', 'float32', [1, 1, 4]);
		const sizes = g.ints([1, 1, 8]);
		const build = (attributes: Attributes) => () => g.one('Resize', [x, undefined, undefined, sizes], attributes);
		expect(build({ mode: 'cubic' })).toThrow('mode cubic is not supported');
		expect(build({ antialias: 1 })).toThrow('antialias 1');
		expect(build({ coordinate_transformation_mode: 'tf_crop_and_resize' })).toThrow('tf_crop_and_resize');
		expect(build({ keep_aspect_ratio_policy: 'not_larger' })).toThrow('not_larger');
		expect(() => g.one('Resize', [x])).toThrow('both or neither');
		expect(() => g.one('Resize', [x, undefined, undefined, g.ints([1, 8])])).toThrow('3 positive numbers');
		expect(() => g.one('Resize', [g.input('i', 'int64', [1, 1, 4]), undefined, undefined, sizes], { mode: 'linear' })).toThrow(
			'a float type',
		);
		expect(() => g.one('Resize', [x, undefined, undefined, g.input('s', 'int64', [3])])).toThrow('input 3 (s) must be a constant');
	});
});
