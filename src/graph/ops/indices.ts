/** @file What gathering and scattering share: checking indices, and zeros to scatter into. */
import { DiffusionPipeError } from '../../core/errors.ts';
import { type DType, describe, type Shape, type TypeShape } from '../../core/tensor.ts';
import { onnxElementType } from '../builder/elementwise.ts';
import type { GraphBuilder } from '../builder.ts';
import type { InferContext } from '../op.ts';
import type { Value } from '../types.ts';

/** `index` counted from the front. Throws when it points outside an axis of `length`. */
export function resolveIndex(op: string, index: number, length: number): number {
	const at = index < 0 ? index + length : index;
	if (at < 0 || at >= length) {
		throw new DiffusionPipeError('graph', `index ${index} is out of range`, { place: op, expected: `${-length} to ${length - 1}` });
	}
	return at;
}

/** Fails unless input `i` holds whole numbers fit for indices. */
export function checkIndices(ctx: InferContext, i: number): TypeShape {
	const t = ctx.input(i);
	if (t.dtype !== 'int64' && t.dtype !== 'int32') ctx.fail(`indices are ${describe(t)}`, 'int32 or int64');
	return t;
}

/** Zeros of a shape, made when the graph runs. */
export function zerosOf(g: GraphBuilder, dtype: DType, shape: Shape): Value {
	return g.one('ConstantOfShape', [g.ints(shape)], { value: 0, dtype: onnxElementType[dtype] });
}
