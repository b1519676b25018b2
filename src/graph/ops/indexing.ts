/** @file The index operators: gathering and scattering from their files, and generators of tensors. Indices may count from the end. */
import { sizeOf, stridesOf, type Tensor, type TypeShape, tensor } from '../../core/tensor.ts';
import { dtypeOfOnnx } from '../builder/elementwise.ts';
import type { EvalContext, InferContext, OpDef } from '../op.ts';
import { normalizeAxis } from '../shapes.ts';
import { gatherOps } from './gather.ts';
import type { IndexOp } from './kinds.ts';
import { forEachOffset, outside, range, takeOffsets } from './move.ts';
import { scatterOps } from './scatter.ts';
import { numbersOf, tensorOf } from './shared.ts';

/** indices [...], depth scalar, values [off, on]: `on` where the new axis equals the index. An index out of range gives only `off`. */
const oneHot: OpDef = {
	inputs: [3, 3],
	outputs: [1, 1],
	attributes: { axis: { kind: 'int', default: -1 } },
	cost: 'cheap',
	infer(ctx) {
		const { shape } = ctx.input(0);
		const values = ctx.input(2);
		const depth = ctx.constant(1)!;
		if (depth.length !== 1 || !(depth[0]! > 0)) ctx.fail(`depth is ${depth}`, 'one positive number');
		if (values.shape.join() !== '2') ctx.fail('values (input 2) must be off and on', '[2]');
		const axis = normalizeAxis(ctx.attributes.int('axis'), shape.length + 1, ctx.fail);
		return [{ dtype: values.dtype, shape: shape.toSpliced(axis, 0, depth[0]!) }];
	},
	vjp: 'none',
	evaluate(ctx) {
		const type = ctx.outputs[0]!;
		const indices = numbersOf(ctx.input(0));
		const [off, on] = numbersOf(ctx.input(2));
		const rank = type.shape.length;
		const axis = ctx.attributes.int('axis');
		const at = axis < 0 ? axis + rank : axis;
		const depth = type.shape[at]!;
		const out = new Float64Array(sizeOf(type.shape)).fill(off!);
		const strides = stridesOf(type.shape);
		forEachOffset(ctx.input(0).shape, strides.toSpliced(at, 1), (i, offset) => {
			const index = indices[i]! < 0 ? indices[i]! + depth : indices[i]!;
			if (index >= 0 && index < depth) out[offset + Math.trunc(index) * strides[at]!] = on!;
		});
		return [tensorOf(type, out)];
	},
};

const trilu: OpDef = {
	inputs: [1, 2],
	outputs: [1, 1],
	attributes: { upper: { kind: 'int', default: 1 } },
	cost: 'cheap',
	infer(ctx) {
		const { dtype, shape } = ctx.input(0);
		if (shape.length < 2) ctx.fail('input must have at least two axes');
		const k = ctx.inputs[1];
		if (k && (k.dtype !== 'int64' || sizeOf(k.shape) !== 1)) ctx.fail('the diagonal (input 1) must be one int64 number');
		return [{ dtype, shape }];
	},
	vjp: (ctx) => [ctx.g.one('Trilu', [ctx.grad(), ...ctx.inputs.slice(1)], ctx.rawAttributes)],
	evaluate(ctx) {
		const x = ctx.input(0);
		const k = ctx.inputs[1] ? numbersOf(ctx.inputs[1])[0]! : 0;
		const upper = ctx.attributes.int('upper') !== 0;
		const [rows, columns] = [x.shape.at(-2)!, x.shape.at(-1)!];
		// One axis of offsets for both: what is kept depends on row and column together.
		const matrix = range(rows * columns).map((i) => {
			const diagonal = (i % columns) - Math.floor(i / columns);
			return (upper ? diagonal >= k : diagonal <= k) ? i : outside;
		});
		const batch = sizeOf(x.shape.slice(0, -2));
		return [takeOffsets(x, x.shape, [range(batch, 0, rows * columns), matrix])];
	},
};

const shape: OpDef = {
	inputs: [1, 1],
	outputs: [1, 1],
	attributes: { start: { kind: 'int', default: 0 }, end: { kind: 'int' } },
	cost: 'view',
	infer: (ctx) => [{ dtype: 'int64', shape: [dimensions(ctx, ctx.input(0)).length] }],
	vjp: 'none',
	evaluate: (ctx) => [tensorOf(ctx.outputs[0]!, dimensions(ctx, ctx.input(0)))],
};

/** The dimensions Shape gives: from `start` to `end`, which may count from the back and are cut to the rank. */
const dimensions = ({ attributes }: Pick<InferContext, 'attributes'>, { shape: all }: TypeShape): readonly number[] =>
	all.slice(attributes.int('start'), attributes.has('end') ? attributes.int('end') : undefined);

/** ONNX has one attribute, the one-element tensor `value`; here it is that number with the ONNX number of its type, joined when written as ONNX. */
const constantOfShape: OpDef = {
	inputs: [1, 1],
	outputs: [1, 1],
	attributes: { value: { kind: 'float', default: 0 }, dtype: { kind: 'int', default: 1 } },
	cost: 'cheap',
	infer(ctx) {
		const number = ctx.attributes.int('dtype');
		const dims = ctx.constant(0)!;
		if (dims.some((d) => d < 0)) ctx.fail(`shape [${dims}] has a negative dimension`);
		return [{ dtype: dtypeOfOnnx(number) ?? ctx.fail(`element type ${number} is not supported`), shape: dims }];
	},
	vjp: 'none',
	evaluate(ctx) {
		const type = ctx.outputs[0]!;
		return [tensorOf(type, new Float64Array(sizeOf(type.shape)).fill(ctx.attributes.float('value')))];
	},
};

const rangeOp: OpDef = {
	inputs: [3, 3],
	outputs: [1, 1],
	attributes: {},
	cost: 'cheap',
	infer(ctx) {
		const { dtype } = ctx.input(0);
		const [start, limit, delta] = range(3).map((i) => {
			if (ctx.input(i).dtype !== dtype) ctx.fail('element types differ', `${dtype} for start, limit and delta`);
			const given = ctx.constant(i)!;
			return given.length === 1 ? given[0]! : ctx.fail(`input ${i} has ${given.length} elements`, 'a scalar');
		}) as [number, number, number];
		if (delta === 0) ctx.fail('delta is 0');
		return [{ dtype, shape: [Math.max(0, Math.ceil((limit - start) / delta))] }];
	},
	vjp: 'none',
	evaluate(ctx: EvalContext): readonly Tensor[] {
		const { dtype, shape: out } = ctx.outputs[0]!;
		const [start, delta] = [numbersOf(ctx.input(0))[0]!, numbersOf(ctx.input(2))[0]!];
		return [tensor(dtype, out, range(out[0]!, start, delta))];
	},
};

export const indexOps: Record<IndexOp, OpDef> = {
	...gatherOps,
	...scatterOps,
	OneHot: oneHot,
	Trilu: trilu,
	Shape: shape,
	ConstantOfShape: constantOfShape,
	Range: rangeOp,
};
