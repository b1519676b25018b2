/** @file Moving elements of host tensors without looking at them: what reference evaluation of shape operators is made of. */
import { makeArray, type Shape, sizeOf, stridesOf, type Tensor, type TensorArray, writeElement } from '../../core/tensor.ts';

/** Offset of a place outside the source: it gets the fill value. Any sum with it is NaN again. */
export const outside = Number.NaN;

/** The elements as something indexable by all types alike: copying between arrays of one type never reads the numbers. */
export function raw(data: TensorArray): Float32Array {
	return data as Float32Array;
}

/**
 * A tensor of `shape` whose element at (i0, i1, ...) is the one of `t` at flat offset axes[0][i0] + axes[1][i1] + ...;
 * where that sum is `outside` it is `fill`.
 */
export function takeOffsets(t: Tensor, shape: Shape, axes: readonly ArrayLike<number>[], fill = 0): Tensor {
	const data = makeArray(t.dtype, sizeOf(shape));
	const [to, from] = [raw(data), raw(t.data)];
	let next = 0;
	const walk = (axis: number, base: number): void => {
		const offsets = axes[axis];
		if (!offsets) {
			if (Number.isNaN(base)) writeElement(t.dtype, data, next++, fill);
			else to[next++] = from[base]!;
			return;
		}
		for (let i = 0; i < offsets.length; i++) walk(axis + 1, base + offsets[i]!);
	};
	walk(0, 0);
	return { dtype: t.dtype, shape, data };
}

/** Picks indices[k] along every axis k: out[i0, i1, ...] = t[indices[0][i0], indices[1][i1], ...]. `outside` gives `fill`. */
export function takeIndices(t: Tensor, indices: readonly ArrayLike<number>[], fill = 0): Tensor {
	const strides = stridesOf(t.shape);
	const axes = indices.map((list, k) => Float64Array.from(list, (i) => i * strides[k]!));
	return takeOffsets(
		t,
		indices.map((list) => list.length),
		axes,
		fill,
	);
}

/** Axis k of the result is axis perm[k] of `t`. */
export function transposeTensor(t: Tensor, perm: readonly number[]): Tensor {
	const strides = stridesOf(t.shape);
	const shape = perm.map((p) => t.shape[p]!);
	return takeOffsets(
		t,
		shape,
		perm.map((p, k) => range(shape[k]!, 0, strides[p]!)),
	);
}

/** `count` numbers from `start` by `step`. */
export function range(count: number, start = 0, step = 1): number[] {
	return Array.from({ length: count }, (_, i) => start + i * step);
}

/** Calls `body` with the flat index of every place of `shape` and the offset its coordinates have under `strides`. */
export function forEachOffset(shape: Shape, strides: readonly number[], body: (index: number, offset: number) => void): void {
	let index = 0;
	const walk = (axis: number, offset: number): void => {
		if (axis === shape.length) body(index++, offset);
		else for (let i = 0; i < shape[axis]!; i++) walk(axis + 1, offset + i * strides[axis]!);
	};
	walk(0, 0);
}
