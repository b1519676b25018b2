/** @file Writing elements at indices. With reduction `none` an index must not repeat, as ONNX demands. */
import { sizeOf, stridesOf, type Tensor } from '../../core/tensor.ts';
import type { AttributeSpec, EvalContext, InferContext, OpDef, VjpContext } from '../op.ts';
import { normalizeAxis } from '../shapes.ts';
import type { Value } from '../types.ts';
import { gatherND } from './gather.ts';
import { checkIndices, resolveIndex, zerosOf } from './indices.ts';
import type { IndexOp } from './kinds.ts';
import { forEachOffset, raw } from './move.ts';
import { numbersOf, tensorOf } from './shared.ts';

const reduction: AttributeSpec = { kind: 'string', default: 'none' };

function checkReduction(ctx: InferContext): void {
	const mode = ctx.attributes.string('reduction');
	if (mode !== 'none' && mode !== 'add') ctx.fail(`reduction ${mode} is not supported`, 'none or add');
	if (ctx.input(0).dtype !== ctx.input(2).dtype) ctx.fail('updates have another element type than the data', ctx.input(0).dtype);
}

/** What flows to the data: everything where updates were added; nothing to the places they replaced, which `clear` sets to zero. */
const toData = (ctx: VjpContext, clear: (zeros: Value) => Value): Value =>
	ctx.attributes.string('reduction') === 'add' ? ctx.grad() : clear(zerosOf(ctx.g, ctx.grad().dtype, ctx.input(2).shape));

/** Writes update number i to the place `places` calls it with. */
function scatter(ctx: EvalContext, places: (write: (update: number, at: number) => void) => void): readonly Tensor[] {
	const [x, updates] = [ctx.input(0), ctx.input(2)];
	if (ctx.attributes.string('reduction') === 'add') {
		const [sum, more] = [Float64Array.from(numbersOf(x)), numbersOf(updates)];
		places((i, at) => {
			sum[at]! += more[i]!;
		});
		return [tensorOf(x, sum)];
	}
	const data = x.data.slice();
	places((i, at) => {
		raw(data)[at] = raw(updates.data)[i]!;
	});
	return [{ ...x, data }];
}

const scatterElements: OpDef = {
	inputs: [3, 3],
	outputs: [1, 1],
	attributes: { axis: { kind: 'int', default: 0 }, reduction },
	cost: 'cheap',
	infer(ctx) {
		const { dtype, shape } = ctx.input(0);
		const indices = checkIndices(ctx, 1);
		checkReduction(ctx);
		const axis = normalizeAxis(ctx.attributes.int('axis'), shape.length, ctx.fail);
		if (indices.shape.length !== shape.length || shape.length === 0)
			ctx.fail('indices must have the rank of the data', 'at least one axis');
		if (indices.shape.join() !== ctx.input(2).shape.join()) ctx.fail('updates must have the shape of the indices', `[${indices.shape}]`);
		if (indices.shape.some((d, k) => k !== axis && d > shape[k]!)) ctx.fail(`indices reach beyond the data outside axis ${axis}`);
		return [{ dtype, shape }];
	},
	vjp(ctx) {
		const { g, needs } = ctx;
		const indices = ctx.input(1);
		const axis = ctx.attributes.int('axis');
		return [
			needs[0] ? toData(ctx, (zeros) => g.scatterElements(ctx.grad(), indices, zeros, axis)) : undefined,
			undefined,
			needs[2] ? g.gatherElements(ctx.grad(), indices, axis) : undefined,
		];
	},
	evaluate(ctx) {
		const { shape } = ctx.input(0);
		const indices = ctx.input(1);
		const places = numbersOf(indices);
		const axis = ctx.attributes.int('axis');
		const along = axis < 0 ? axis + shape.length : axis;
		const strides = stridesOf(shape);
		return scatter(ctx, (write) =>
			forEachOffset(indices.shape, strides.with(along, 0), (i, offset) => {
				write(i, offset + resolveIndex('ScatterElements', places[i]!, shape[along]!) * strides[along]!);
			}),
		);
	},
};

const scatterND: OpDef = {
	inputs: [3, 3],
	outputs: [1, 1],
	attributes: { reduction },
	cost: 'cheap',
	infer(ctx) {
		const { dtype, shape } = ctx.input(0);
		const indices = checkIndices(ctx, 1);
		checkReduction(ctx);
		const depth = indices.shape.at(-1) ?? ctx.fail('indices must have at least one axis', '[..., entries per index]');
		if (depth > shape.length) ctx.fail(`index tuples of ${depth} entries`, `at most ${shape.length}, one for each axis of the data`);
		const expected = [...indices.shape.slice(0, -1), ...shape.slice(depth)];
		if (expected.join() !== ctx.input(2).shape.join()) ctx.fail('updates do not fit indices and data', `[${expected}]`);
		return [{ dtype, shape }];
	},
	vjp(ctx) {
		const { g, needs } = ctx;
		const indices = ctx.input(1);
		return [
			needs[0] ? toData(ctx, (zeros) => g.scatterND(ctx.grad(), indices, zeros)) : undefined,
			undefined,
			needs[2] ? gatherND(g, ctx.grad(), indices) : undefined,
		];
	},
	evaluate(ctx) {
		const { shape } = ctx.input(0);
		const indices = ctx.input(1);
		const entries = numbersOf(indices);
		const depth = indices.shape.at(-1)!;
		const count = sizeOf(indices.shape.slice(0, -1));
		const strides = stridesOf(shape);
		const size = sizeOf(shape.slice(depth));
		return scatter(ctx, (write) => {
			for (let i = 0; i < count; i++) {
				let at = 0;
				for (let k = 0; k < depth; k++) at += resolveIndex('ScatterND', entries[i * depth + k]!, shape[k]!) * strides[k]!;
				for (let j = 0; j < size; j++) write(i * size + j, at + j);
			}
		});
	},
};

export const scatterOps: Record<Extract<IndexOp, 'ScatterElements' | 'ScatterND'>, OpDef> = {
	ScatterElements: scatterElements,
	ScatterND: scatterND,
};
