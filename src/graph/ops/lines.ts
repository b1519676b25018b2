/** @file Walking a tensor along one axis, for reference evaluation. */
import { type Shape, sizeOf } from '../../core/tensor.ts';

/** One line of elements along an axis: element k is at `start + k * stride`. */
export interface Line {
	readonly start: number;
	readonly stride: number;
	readonly length: number;
}

/** Calls `body` with every line of a tensor of `shape` along `axis` (not negative), in row-major order; `index` counts the lines. */
export function forEachLine(shape: Shape, axis: number, body: (line: Line, index: number) => void): void {
	const length = shape[axis] ?? 1;
	const stride = sizeOf(shape.slice(axis + 1));
	const outer = sizeOf(shape.slice(0, axis));
	for (let i = 0; i < outer * stride; i++) {
		body({ start: Math.floor(i / stride) * length * stride + (i % stride), stride, length }, i);
	}
}
