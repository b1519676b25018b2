/** @file Reductions over axes, positions of maxima and running sums. */
import { type Shape, sizeOf } from '../../core/tensor.ts';
import type { AttributeReader, InferContext, OpDef, VjpContext } from '../op.ts';
import { normalizeAxis } from '../shapes.ts';
import type { Value } from '../types.ts';
import { type Accepted, floats, numeric, requireType } from './elementwise.ts';
import type { ReduceOp } from './kinds.ts';
import { forEachLine } from './lines.ts';
import { forEachBroadcast, numbersOf, sameAsInput, tensorOf } from './shared.ts';

/** `shape` with the reduced axes as 1. No axes given means all of them, or none when the attribute says so. */
function keptShape(shape: Shape, axes: readonly number[] | undefined, attributes: AttributeReader): Shape {
	if (!axes?.length) return attributes.int('noop_with_empty_axes') ? shape : shape.map(() => 1);
	const reduced = new Set(axes.map((a) => (a < 0 ? a + shape.length : a)));
	return shape.map((d, i) => (reduced.has(i) ? 1 : d));
}

/** What a reduction is: an accumulation over the elements that share an output element, and its end. */
interface Reduction {
	readonly start: number;
	step(sum: number, x: number): number;
	/** From the accumulated number and how many elements it holds. */
	finish?(sum: number, count: number): number;
	readonly accepted: Accepted;
	/** Gradient of x, with y and dy in the kept shape and `count` elements of x for each of y. */
	vjp(ctx: VjpContext, y: () => Value, dy: Value, count: number): Value;
}

const define = (r: Reduction): OpDef => ({
	inputs: [1, 2],
	outputs: [1, 1],
	attributes: { keepdims: { kind: 'int', default: 1 }, noop_with_empty_axes: { kind: 'int', default: 0 } },
	cost: 'cheap',
	infer(ctx) {
		requireType(ctx, 0, r.accepted);
		const { dtype, shape } = ctx.input(0);
		const axes = checkedAxes(ctx, shape.length);
		const kept = keptShape(shape, axes, ctx.attributes);
		if (!Number.isFinite(r.start) && sizeOf(shape) < sizeOf(kept)) ctx.fail('nothing to take the extreme of: a reduced axis is empty');
		if (ctx.attributes.int('keepdims')) return [{ dtype, shape: kept }];
		const reduced = new Set(axes?.length ? axes : ctx.attributes.int('noop_with_empty_axes') ? [] : shape.keys());
		return [{ dtype, shape: shape.filter((_, i) => !reduced.has(i)) }];
	},
	vjp(ctx) {
		const x = ctx.input(0);
		const kept = keptShape(x.shape, ctx.constant(1), ctx.attributes);
		const inKept = (v: Value) => (v.shape.length === kept.length ? v : ctx.g.reshape(v, kept));
		const count = sizeOf(x.shape) / sizeOf(kept);
		return [r.vjp(ctx, () => inKept(ctx.outputs[0]!), inKept(ctx.grad()), count)];
	},
	evaluate(ctx) {
		const { shape } = ctx.input(0);
		const x = numbersOf(ctx.input(0));
		const kept = keptShape(shape, ctx.inputs[1] && [...numbersOf(ctx.inputs[1])], ctx.attributes);
		const out = new Float64Array(sizeOf(kept)).fill(r.start);
		forEachBroadcast(shape, [kept], (index, [o]) => {
			out[o!] = r.step(out[o!]!, x[index]!);
		});
		const count = sizeOf(shape) / sizeOf(kept);
		return [tensorOf(ctx.outputs[0]!, r.finish ? out.map((v) => r.finish!(v, count)) : out)];
	},
});

/** The axes of input 1 counted from the front, each once; undefined when omitted. */
function checkedAxes(ctx: InferContext, rank: number): number[] | undefined {
	const vector = ctx.inputs[1];
	if (vector && (vector.dtype !== 'int64' || vector.shape.length !== 1)) ctx.fail('the axes are not a vector of whole numbers', 'int64[n]');
	const axes = ctx.constant(1)?.map((a) => normalizeAxis(a, rank, ctx.fail));
	if (axes && new Set(axes).size < axes.length) ctx.fail(`an axis is named twice in ${axes.join(', ')}`);
	return axes;
}

/** Shares the gradient evenly among the elements equal to the extreme. */
function toExtremes({ g, input }: VjpContext, y: () => Value, dy: Value): Value {
	const x = input(0);
	const mask = g.cast(g.equal(x, y()), dy.dtype);
	const reduced = x.shape.flatMap((d, i) => (d !== dy.shape[i] ? [i] : []));
	const ties = reduced.length > 0 ? g.reduceSum(mask, reduced) : mask;
	return g.mul(mask, g.div(dy, ties));
}

const argMax: OpDef = {
	inputs: [1, 1],
	outputs: [1, 1],
	attributes: {
		axis: { kind: 'int', default: 0 },
		keepdims: { kind: 'int', default: 1 },
		select_last_index: { kind: 'int', default: 0 },
	},
	cost: 'cheap',
	infer(ctx) {
		requireType(ctx, 0, numeric);
		const { shape } = ctx.input(0);
		const axis = normalizeAxis(ctx.attributes.int('axis'), shape.length, ctx.fail);
		if (shape[axis] === 0) ctx.fail(`axis ${axis} is empty`);
		return [{ dtype: 'int64', shape: ctx.attributes.int('keepdims') ? shape.with(axis, 1) : shape.toSpliced(axis, 1) }];
	},
	vjp: 'none',
	evaluate(ctx) {
		const { shape } = ctx.input(0);
		const x = numbersOf(ctx.input(0));
		const axis = ctx.attributes.int('axis');
		const last = ctx.attributes.int('select_last_index') === 1;
		const out: number[] = [];
		forEachLine(shape, axis < 0 ? axis + shape.length : axis, ({ start, stride, length }) => {
			let best = 0;
			for (let k = 1; k < length; k++) {
				const [value, record] = [x[start + k * stride]!, x[start + best * stride]!];
				if (value > record || (last && value === record)) best = k;
			}
			out.push(best);
		});
		return [tensorOf(ctx.outputs[0]!, out)];
	},
};

const cumSum: OpDef = {
	inputs: [2, 2],
	outputs: [1, 1],
	attributes: { exclusive: { kind: 'int', default: 0 }, reverse: { kind: 'int', default: 0 } },
	cost: 'cheap',
	infer(ctx) {
		requireType(ctx, 0, numeric);
		const { dtype, shape } = ctx.input(1);
		if ((dtype !== 'int64' && dtype !== 'int32') || sizeOf(shape) !== 1)
			ctx.fail('the axis is not one whole number', 'int64 or int32, shape []');
		normalizeAxis(ctx.constant(1)![0]!, ctx.input(0).shape.length, ctx.fail);
		return sameAsInput(ctx);
	},
	// Every element adds to those after it, so its gradient is the running sum from the other end.
	vjp(ctx) {
		const { g, attributes } = ctx;
		return [g.cumSum(ctx.grad(), ctx.constant(1)![0]!, attributes.int('exclusive') === 1, attributes.int('reverse') === 0)];
	},
	evaluate(ctx) {
		const { shape } = ctx.input(0);
		const x = numbersOf(ctx.input(0));
		const axis = numbersOf(ctx.input(1))[0]!;
		const exclusive = ctx.attributes.int('exclusive') === 1;
		const reverse = ctx.attributes.int('reverse') === 1;
		const out = new Float64Array(x.length);
		forEachLine(shape, axis < 0 ? axis + shape.length : axis, ({ start, stride, length }) => {
			let sum = 0;
			for (let k = 0; k < length; k++) {
				const at = start + (reverse ? length - 1 - k : k) * stride;
				out[at] = exclusive ? sum : sum + x[at]!;
				sum += x[at]!;
			}
		});
		return [tensorOf(ctx.outputs[0]!, out)];
	},
};

/** `grad` as large as x, where they differ. */
const spread = ({ g, input }: VjpContext, grad: Value): Value =>
	grad.shape.some((d, i) => d !== input(0).shape[i]) ? g.expand(grad, input(0).shape) : grad;

export const reduceOps: Record<ReduceOp, OpDef> = {
	ReduceSum: define({ start: 0, step: (s, x) => s + x, accepted: numeric, vjp: (ctx, _y, dy) => spread(ctx, dy) }),
	ReduceMean: define({
		start: 0,
		step: (s, x) => s + x,
		finish: (s, n) => s / n,
		accepted: numeric,
		// Scaled before it is spread: the product is over the small tensor.
		vjp: (ctx, _y, dy, count) => spread(ctx, count === 1 ? dy : ctx.g.mul(dy, 1 / count)),
	}),
	ReduceMax: define({ start: Number.NEGATIVE_INFINITY, step: Math.max, accepted: numeric, vjp: toExtremes }),
	ReduceMin: define({ start: Number.POSITIVE_INFINITY, step: Math.min, accepted: numeric, vjp: toExtremes }),
	ReduceSumSquare: define({
		start: 0,
		step: (s, x) => s + x * x,
		accepted: floats,
		vjp: ({ g, input }, _y, dy) => g.mul(input(0), g.mul(dy, 2)),
	}),
	ArgMax: argMax,
	CumSum: cumSum,
};
