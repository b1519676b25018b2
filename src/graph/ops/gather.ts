/** @file Reading elements at indices. */
import { makeArray, sizeOf, stridesOf } from '../../core/tensor.ts';
import type { GraphBuilder } from '../builder.ts';
import type { OpDef } from '../op.ts';
import { normalizeAxis } from '../shapes.ts';
import type { Value } from '../types.ts';
import { checkIndices, resolveIndex, zerosOf } from './indices.ts';
import type { IndexOp } from './kinds.ts';
import { forEachOffset, range, raw, takeOffsets } from './move.ts';
import { numbersOf } from './shared.ts';

const fromFront = (axis: number, rank: number): number => (axis < 0 ? axis + rank : axis);

const gather: OpDef = {
	inputs: [2, 2],
	outputs: [1, 1],
	attributes: { axis: { kind: 'int', default: 0 } },
	cost: 'cheap',
	infer(ctx) {
		const { dtype, shape } = ctx.input(0);
		const indices = checkIndices(ctx, 1);
		if (shape.length === 0) ctx.fail('a scalar cannot be indexed', 'at least one axis');
		const axis = normalizeAxis(ctx.attributes.int('axis'), shape.length, ctx.fail);
		return [{ dtype, shape: [...shape.slice(0, axis), ...indices.shape, ...shape.slice(axis + 1)] }];
	},
	vjp(ctx) {
		const { g } = ctx;
		const [x, indices] = [ctx.input(0), ctx.input(1)];
		const axis = fromFront(ctx.attributes.int('axis'), x.shape.length);
		const count = sizeOf(indices.shape);
		const rest = x.shape.toSpliced(axis, 1);
		// Rows of the indexed axis first: ScatterND adds whole rows, also where an index repeats.
		const [before, after] = [rest.slice(0, axis), rest.slice(axis)];
		const flat = g.reshape(ctx.grad(), [...before, count, ...after]);
		const toFront = [axis, ...range(axis), ...range(after.length, axis + 1)];
		const rows = axis === 0 ? flat : g.transpose(flat, toFront);
		const places = g.reshape(g.cast(indices, 'int64'), [count, 1]);
		const sum = g.scatterND(zerosOf(g, x.dtype, [x.shape[axis]!, ...rest]), places, rows, 'add');
		return [
			axis === 0
				? sum
				: g.transpose(
						sum,
						range(rest.length + 1).map((i) => toFront.indexOf(i)),
					),
		];
	},
	evaluate(ctx) {
		const [x, indices] = [ctx.input(0), numbersOf(ctx.input(1))];
		const axis = fromFront(ctx.attributes.int('axis'), x.shape.length);
		const strides = stridesOf(x.shape);
		const along = (k: number) => range(x.shape[k]!, 0, strides[k]!);
		const picked = Array.from(indices, (i) => resolveIndex('Gather', i, x.shape[axis]!) * strides[axis]!);
		const axes = [...range(axis).map(along), picked, ...range(x.shape.length - axis - 1, axis + 1).map(along)];
		return [takeOffsets(x, ctx.outputs[0]!.shape, axes)];
	},
};

const gatherElements: OpDef = {
	inputs: [2, 2],
	outputs: [1, 1],
	attributes: { axis: { kind: 'int', default: 0 } },
	cost: 'cheap',
	infer(ctx) {
		const { dtype, shape } = ctx.input(0);
		const indices = checkIndices(ctx, 1);
		const axis = normalizeAxis(ctx.attributes.int('axis'), shape.length, ctx.fail);
		if (indices.shape.length !== shape.length || shape.length === 0)
			ctx.fail('indices must have the rank of the data', 'at least one axis');
		if (indices.shape.some((d, k) => k !== axis && d > shape[k]!)) ctx.fail(`indices reach beyond the data outside axis ${axis}`);
		return [{ dtype, shape: indices.shape }];
	},
	vjp(ctx) {
		const { g } = ctx;
		const x = ctx.input(0);
		return [g.scatterElements(zerosOf(g, x.dtype, x.shape), ctx.input(1), ctx.grad(), ctx.attributes.int('axis'), 'add')];
	},
	evaluate(ctx) {
		const [x, indices] = [ctx.input(0), numbersOf(ctx.input(1))];
		const { dtype, shape } = ctx.outputs[0]!;
		const axis = fromFront(ctx.attributes.int('axis'), x.shape.length);
		const strides = stridesOf(x.shape);
		const data = makeArray(dtype, sizeOf(shape));
		forEachOffset(shape, strides.with(axis, 0), (i, offset) => {
			raw(data)[i] = raw(x.data)[offset + resolveIndex('GatherElements', indices[i]!, x.shape[axis]!) * strides[axis]!]!;
		});
		return [{ dtype, shape, data }];
	},
};

/**
 * The slices of `x` at index tuples: indices [..., k] into the first k axes give [..., rest of x]. This is ONNX's GatherND, spelled with
 * Gather over flat rows.
 */
export function gatherND(g: GraphBuilder, x: Value, indices: Value): Value {
	const depth = indices.shape.at(-1)!;
	const lead = indices.shape.slice(0, -1);
	const dims = x.shape.slice(0, depth);
	const rows = g.reshape(x, [sizeOf(dims), ...x.shape.slice(depth)]);
	if (depth === 1) return g.gather(rows, g.reshape(indices, lead), 0);
	// Mod follows the divisor's sign, so it also counts negative indices from the front.
	const whole = g.mod(g.cast(indices, 'int64'), g.ints(dims));
	return g.gather(rows, g.reduceSum(g.mul(whole, g.ints(stridesOf(dims))), [-1], false), 0);
}

export const gatherOps: Record<Extract<IndexOp, 'Gather' | 'GatherElements'>, OpDef> = { Gather: gather, GatherElements: gatherElements };
