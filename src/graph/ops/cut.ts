/** @file Operators that join tensors along an axis and cut pieces out of them. */
import { type Shape, sizeOf, type Tensor, toNumbers, zeros } from '../../core/tensor.ts';
import type { GraphBuilder } from '../builder.ts';
import type { EvalContext, InferContext, OpDef } from '../op.ts';
import { normalizeAxis } from '../shapes.ts';
import type { Value } from '../types.ts';
import type { ShapeOp } from './kinds.ts';
import { range, raw, takeIndices } from './move.ts';

const fromFront = (axis: number, rank: number): number => (axis < 0 ? axis + rank : axis);

/** Pads only one axis with zeros, `before` in front and `after` behind. */
export function padAxis(g: GraphBuilder, x: Value, axis: number, before: number, after: number): Value {
	if (before === 0 && after === 0) return x;
	const pads = new Array<number>(2 * x.shape.length).fill(0);
	pads[axis] = before;
	pads[x.shape.length + axis] = after;
	return g.pad(x, pads);
}

const concat: OpDef = {
	inputs: [1, Number.POSITIVE_INFINITY],
	outputs: [1, 1],
	attributes: { axis: { kind: 'int' } },
	cost: 'cheap',
	infer(ctx) {
		const first = ctx.input(0);
		const axis = normalizeAxis(ctx.attributes.int('axis'), first.shape.length, ctx.fail);
		if (first.shape.length === 0) ctx.fail('scalars cannot be joined', 'at least one axis');
		let length = 0;
		for (let i = 0; i < ctx.inputs.length; i++) {
			const { dtype, shape } = ctx.input(i);
			if (dtype !== first.dtype) ctx.fail(`input ${i} has another element type`, first.dtype);
			if (shape.length !== first.shape.length || shape.some((d, k) => k !== axis && d !== first.shape[k])) {
				ctx.fail(`input ${i} differs outside axis ${axis}`, `[${first.shape.map((d, k) => (k === axis ? '?' : d))}]`);
			}
			length += shape[axis]!;
		}
		return [{ dtype: first.dtype, shape: first.shape.map((d, k) => (k === axis ? length : d)) }];
	},
	vjp(ctx) {
		const { g, needs } = ctx;
		const axis = fromFront(ctx.attributes.int('axis'), ctx.outputs[0]!.shape.length);
		const sizes = ctx.inputs.map((_, i) => ctx.input(i).shape[axis]!);
		if (needs.filter(Boolean).length > 1) return g.split(ctx.grad(), sizes, axis);
		const start = sizes.slice(0, needs.indexOf(true)).reduce((a, b) => a + b, 0);
		return sizes.map((size, i) => (needs[i] ? g.slice(ctx.grad(), [start], [start + size], [axis]) : undefined));
	},
	evaluate(ctx) {
		const out = zeros(ctx.outputs[0]!.dtype, ctx.outputs[0]!.shape);
		const axis = fromFront(ctx.attributes.int('axis'), out.shape.length);
		const rows = sizeOf(out.shape.slice(0, axis));
		const stride = sizeOf(out.shape.slice(axis));
		let at = 0;
		for (let i = 0; i < ctx.inputs.length; i++) {
			const x = ctx.input(i);
			const length = sizeOf(x.shape.slice(axis));
			for (let r = 0; r < rows; r++) raw(out.data).set(raw(x.data).subarray(r * length, (r + 1) * length), r * stride + at);
			at += length;
		}
		return [out];
	},
};

/** Sizes of the pieces of an axis of `length`: as given, or `count` equal ones of which the last may be smaller. */
function pieceSizes(given: readonly number[] | undefined, count: number, length: number): number[] {
	if (given) return [...given];
	const size = Math.ceil(length / count);
	return range(count).map((i) => Math.max(0, Math.min(size, length - i * size)));
}

const split: OpDef = {
	inputs: [1, 2],
	outputs: [1, Number.POSITIVE_INFINITY],
	attributes: { axis: { kind: 'int', default: 0 }, num_outputs: { kind: 'int' } },
	cost: 'cheap',
	infer(ctx) {
		const { dtype, shape } = ctx.input(0);
		const axis = normalizeAxis(ctx.attributes.int('axis'), shape.length, ctx.fail);
		const length = shape[axis] ?? ctx.fail('a scalar cannot be split', 'at least one axis');
		const given = ctx.constant(1);
		const byCount = ctx.attributes.has('num_outputs');
		if ((given === undefined) === !byCount) ctx.fail('pieces are given neither or twice', 'either sizes as input 1 or num_outputs');
		const count = given?.length ?? ctx.attributes.int('num_outputs');
		if (count !== ctx.outputCount) ctx.fail(`${count} pieces for ${ctx.outputCount} outputs`);
		const sizes = pieceSizes(given, count, length);
		if (sizes.some((s) => s < 0) || sizes.reduce((a, b) => a + b, 0) !== length) {
			ctx.fail(`sizes [${sizes}] do not add up to axis ${axis}`, `${length}`);
		}
		return sizes.map((size) => ({ dtype, shape: shape.map((d, k) => (k === axis ? size : d)) }));
	},
	vjp(ctx) {
		const { g, grads, outputs } = ctx;
		const axis = fromFront(ctx.attributes.int('axis'), ctx.input(0).shape.length);
		const present = grads.filter((d) => d !== undefined);
		if (present.length > 1) {
			const pieces = outputs.map((y, i) => grads[i] ?? g.expand(g.scalar(0, y.dtype), y.shape));
			return [g.concat(pieces, axis)];
		}
		const only = grads.indexOf(present[0]);
		const before = outputs.slice(0, only).reduce((n, y) => n + y.shape[axis]!, 0);
		const after = outputs.slice(only + 1).reduce((n, y) => n + y.shape[axis]!, 0);
		return [padAxis(g, present[0]!, axis, before, after)];
	},
	evaluate(ctx) {
		const x = ctx.input(0);
		const axis = fromFront(ctx.attributes.int('axis'), x.shape.length);
		let start = 0;
		return ctx.outputs.map(({ shape }) => {
			const indices = shape.map((d, k) => range(d, k === axis ? start : 0));
			start += shape[axis]!;
			return takeIndices(x, indices);
		});
	},
};

/** What Slice takes of one axis: `count` entries from `start` by `step` (never 0). */
interface Cut {
	readonly axis: number;
	readonly start: number;
	readonly step: number;
	readonly count: number;
}

/** Resolves negative and overlong bounds as ONNX (and NumPy) do. The inputs of Slice, as numbers: starts, ends, axes, steps. */
function cutsOf(shape: Shape, [starts, ends, axes, steps]: readonly (readonly number[] | undefined)[]): Cut[] {
	return starts!.map((from, i) => {
		const axis = fromFront(axes?.[i] ?? i, shape.length);
		const length = shape[axis]!;
		const step = steps?.[i] ?? 1;
		// A backward cut runs from at most the last entry down to before the first, which is -1 here.
		const [low, high] = step > 0 ? [0, length] : [-1, length - 1];
		const bound = (at: number) => Math.min(Math.max(at < 0 ? at + length : at, low), high);
		const start = step > 0 ? bound(from) : Math.max(bound(from), Math.min(0, high));
		return { axis, start, step, count: Math.max(0, Math.ceil((bound(ends![i]!) - start) / step)) };
	});
}

function checkSlice(ctx: InferContext): Cut[] {
	const { shape } = ctx.input(0);
	const [starts, ends, axes, steps] = [ctx.constant(1)!, ctx.constant(2)!, ctx.constant(3), ctx.constant(4)];
	const count = starts.length;
	if (ends.length !== count || (axes && axes.length !== count) || (steps && steps.length !== count)) {
		ctx.fail('starts, ends, axes and steps differ in length', `${count} entries each`);
	}
	if (count > shape.length) ctx.fail(`${count} cuts for ${shape.length} axes`);
	const named = (axes ?? range(count)).map((a) => normalizeAxis(a, shape.length, ctx.fail));
	if (new Set(named).size !== count) ctx.fail(`axes [${axes}] repeat`);
	if (steps?.includes(0)) ctx.fail(`steps [${steps}] has a zero`);
	return cutsOf(shape, [starts, ends, axes, steps]);
}

/** Puts the gradient of one cut back to where the entries came from, zeros elsewhere. */
function uncut(g: GraphBuilder, grad: Value, { axis, start, step, count }: Cut, length: number): Value {
	if (count === 0) return g.expand(g.scalar(0, grad.dtype), grad.shape.with(axis, length));
	const backward = step < 0 && count > 1;
	const ordered = backward ? g.slice(grad, [-1], [-count - 1], [axis], [-1]) : grad;
	const first = backward ? start + (count - 1) * step : start;
	const stride = count > 1 ? Math.abs(step) : 1;
	if (stride === 1) return padAxis(g, ordered, axis, first, length - first - count);
	// Zeros between the entries: one more axis, padded from 1 to the step, and folded in; what overhangs at the end is cut off.
	const apart = padAxis(g, g.unsqueeze(ordered, [axis + 1]), axis + 1, 0, stride - 1);
	const spread = g.reshape(apart, ordered.shape.with(axis, count * stride));
	const kept = Math.min(count * stride, length - first);
	const cut = kept < count * stride ? g.slice(spread, [0], [kept], [axis]) : spread;
	return padAxis(g, cut, axis, first, length - first - kept);
}

const slice: OpDef = {
	inputs: [3, 5],
	outputs: [1, 1],
	attributes: {},
	cost: 'cheap',
	infer(ctx) {
		const { dtype, shape } = ctx.input(0);
		const out = [...shape];
		for (const { axis, count } of checkSlice(ctx)) out[axis] = count;
		return [{ dtype, shape: out }];
	},
	vjp(ctx) {
		const { g } = ctx;
		const { shape } = ctx.input(0);
		const cuts = cutsOf(shape, range(4, 1).map(ctx.constant));
		const whole = ({ axis, step, count }: Cut) => step === 1 && count === shape[axis];
		if (cuts.every(({ step, count }) => step === 1 && count > 0)) {
			const pads = new Array<number>(2 * shape.length).fill(0);
			for (const { axis, start, count } of cuts) {
				pads[axis] = start;
				pads[shape.length + axis] = shape[axis]! - start - count;
			}
			return [cuts.every(whole) ? ctx.grad() : g.pad(ctx.grad(), pads)];
		}
		let grad = ctx.grad();
		for (const cut of cuts) if (!whole(cut)) grad = uncut(g, grad, cut, shape[cut.axis]!);
		return [grad];
	},
	evaluate(ctx) {
		const x = ctx.input(0);
		const indices = x.shape.map((d) => range(d));
		for (const { axis, start, step, count } of cutsOf(x.shape, cutInputs(ctx))) indices[axis] = range(count, start, step);
		return [takeIndices(x, indices)];
	},
};

const cutInputs = (ctx: EvalContext) =>
	range(4, 1).map((i) => {
		const t: Tensor | undefined = ctx.inputs[i];
		return t && toNumbers(t);
	});

export const cutOps: Record<Extract<ShapeOp, 'Concat' | 'Split' | 'Slice'>, OpDef> = { Concat: concat, Split: split, Slice: slice };
