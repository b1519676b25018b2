/** @file Builder functions: operators that move, cut, join and index elements. */
import { sizeOf, tensor } from '../../core/tensor.ts';
import type { EmitTools } from '../builder.ts';
import type { Value } from '../types.ts';

/** Functions for shape and index operators. Axes may be negative. */
export function shapeFunctions(t: EmitTools) {
	return {
		/** One dimension may be -1: what is left, unless another is 0. 0 is not a copy here but an empty dimension (allowzero). */
		reshape: (x: Value, shape: readonly number[]): Value => {
			const rest = shape.reduce((n, d) => (d === -1 ? n : n * d), 1);
			const open = sizeOf(x.shape) / rest;
			// What does not divide stays -1, for inference to refuse with the shape as it was given.
			const settled = Number.isInteger(open) && shape.indexOf(-1) === shape.lastIndexOf(-1);
			const whole = settled ? shape.map((d) => (d === -1 ? open : d)) : shape;
			return t.one('Reshape', [x, t.ints(whole)], whole.includes(0) ? { allowzero: 1 } : {});
		},
		transpose: (x: Value, perm: readonly number[]): Value => t.one('Transpose', [x], { perm }),
		concat: (xs: readonly Value[], axis: number): Value => (xs.length === 1 ? xs[0]! : t.one('Concat', xs, { axis })),
		/** Cuts `x` along `axis` into pieces of these sizes. */
		split: (x: Value, sizes: readonly number[], axis: number): readonly Value[] =>
			t.emit('Split', [x, t.ints(sizes)], { axis }, sizes.length),
		slice: (x: Value, starts: readonly number[], ends: readonly number[], axes: readonly number[], steps?: readonly number[]): Value =>
			t.one('Slice', [x, t.ints(starts), t.ints(ends), t.ints(axes), ...(steps ? [t.ints(steps)] : [])]),
		expand: (x: Value, shape: readonly number[]): Value => t.one('Expand', [x, t.ints(shape)]),
		squeeze: (x: Value, axes: readonly number[]): Value => t.one('Squeeze', [x, t.ints(axes)]),
		unsqueeze: (x: Value, axes: readonly number[]): Value => t.one('Unsqueeze', [x, t.ints(axes)]),
		flatten: (x: Value, axis = 1): Value => t.one('Flatten', [x], { axis }),
		/** Pads with zeros (or `value`): all begins, then all ends. */
		pad: (x: Value, pads: readonly number[], value?: number, mode: 'constant' | 'reflect' | 'edge' = 'constant'): Value =>
			t.one('Pad', value === undefined ? [x, t.ints(pads)] : [x, t.ints(pads), t.operand(value, x.dtype)], { mode }),
		tile: (x: Value, repeats: readonly number[]): Value => t.one('Tile', [x, t.ints(repeats)]),
		depthToSpace: (x: Value, blocksize: number, mode: 'DCR' | 'CRD' = 'DCR'): Value => t.one('DepthToSpace', [x], { blocksize, mode }),
		spaceToDepth: (x: Value, blocksize: number): Value => t.one('SpaceToDepth', [x], { blocksize }),
		gather: (x: Value, indices: Value, axis = 0): Value => t.one('Gather', [x, indices], { axis }),
		gatherElements: (x: Value, indices: Value, axis = 0): Value => t.one('GatherElements', [x, indices], { axis }),
		scatterElements: (x: Value, indices: Value, updates: Value, axis = 0, reduction: 'none' | 'add' = 'none'): Value =>
			t.one('ScatterElements', [x, indices, updates], { axis, reduction }),
		scatterND: (x: Value, indices: Value, updates: Value, reduction: 'none' | 'add' = 'none'): Value =>
			t.one('ScatterND', [x, indices, updates], { reduction }),
		oneHot: (indices: Value, depth: number, off: number, on: number, axis = -1): Value =>
			t.one('OneHot', [indices, t.operand(depth, 'int64'), t.constant(tensor('float32', [2], [off, on]))], { axis }),
		/** Upper (or lower) triangle of the last two axes. */
		trilu: (x: Value, upper: boolean, k = 0): Value => t.one('Trilu', [x, t.operand(k, 'int64')], { upper: upper ? 1 : 0 }),
	};
}
