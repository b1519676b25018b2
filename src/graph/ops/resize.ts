/** @file Resize: nearest and linear interpolation, one axis at a time. */
import { type Shape, sizeOf, stridesOf, tensor, toNumbers } from '../../core/tensor.ts';
import type { GraphBuilder } from '../builder.ts';
import type { AttributeReader, InferContext, OpDef, VjpContext } from '../op.ts';
import type { Value } from '../types.ts';
import { forEachOffset, range, takeIndices } from './move.ts';
import { swapLast } from './product.ts';
import { isFloat, numbersOf, tensorOf } from './shared.ts';

/** What one entry of the output is made of: entries of the input with their weights. */
type Taps = readonly (readonly [index: number, weight: number])[];

/** How one axis is resized. `scale` is the factor given by the user, or undefined where the sizes are. */
interface Axis {
	readonly from: number;
	readonly to: number;
	readonly scale: number | undefined;
}

const coordinateModes = ['half_pixel', 'pytorch_half_pixel', 'align_corners', 'asymmetric'];
const nearestModes = ['round_prefer_floor', 'round_prefer_ceil', 'floor', 'ceil'];

/** Resized axes of `shape`, from the numbers of the inputs scales and sizes. */
function axesOf(shape: Shape, scales: readonly number[] | undefined, sizes: readonly number[] | undefined): Axis[] {
	return shape.map((from, i) => {
		if (sizes?.length) return { from, to: sizes[i]!, scale: undefined };
		// Scales are float32, and so must the product be: 0.7 of 10 would be 6 otherwise.
		return { from, to: Math.floor(Math.fround(from * scales![i]!)), scale: scales![i]! };
	});
}

/** True when the axis stays as it is in every mode. */
const kept = ({ from, to, scale }: Axis): boolean => from === to && (scale ?? 1) === 1;

/** Where entry `i` of the output lies on the input's axis. */
function coordinate(mode: string, { from, to, scale }: Axis, i: number): number {
	// Sizes give an exact ratio; dividing by their quotient instead would put whole coordinates just below themselves. A scale is a
	// float32, and only rounding to that again brings halves and whole coordinates back to themselves.
	const back = (x: number) => (scale === undefined ? (x * from) / to : Math.fround(x / scale));
	if (mode === 'asymmetric') return back(i);
	if (mode === 'align_corners') return to === 1 ? 0 : (i * (from - 1)) / (to - 1);
	if (mode === 'pytorch_half_pixel' && to === 1) return 0;
	return back(i + 0.5) - 0.5;
}

const roundings: Readonly<Record<string, (x: number) => number>> = {
	round_prefer_floor: (x) => Math.ceil(x - 0.5),
	round_prefer_ceil: (x) => Math.floor(x + 0.5),
	floor: Math.floor,
	ceil: Math.ceil,
};

/** The taps of every output entry along one axis. Entries beyond the edge are the edge. */
function tapsOf(attributes: AttributeReader, axis: Axis): Taps[] {
	const inside = (i: number) => Math.min(Math.max(i, 0), axis.from - 1);
	const mode = attributes.string('coordinate_transformation_mode');
	return range(axis.to).map((i) => {
		const x = coordinate(mode, axis, i);
		if (attributes.string('mode') === 'nearest') return [[inside(roundings[attributes.string('nearest_mode')]!(x)), 1]];
		const low = Math.floor(x);
		return [
			[inside(low), 1 - (x - low)],
			[inside(low + 1), x - low],
		];
	});
}

function checkResize(ctx: InferContext): Axis[] {
	const { attributes } = ctx;
	const { dtype, shape } = ctx.input(0);
	const oneOf = (name: string, allowed: readonly string[]) => {
		if (!allowed.includes(attributes.string(name))) ctx.fail(`${name} ${attributes.string(name)} is not supported`, allowed.join(', '));
	};
	oneOf('mode', ['nearest', 'linear']);
	oneOf('coordinate_transformation_mode', coordinateModes);
	oneOf('nearest_mode', nearestModes);
	oneOf('keep_aspect_ratio_policy', ['stretch']);
	if (attributes.int('antialias') !== 0) ctx.fail('antialias 1 is not supported', 'antialias 0');
	if (attributes.string('mode') === 'linear' && !isFloat(dtype)) ctx.fail(`mode linear with ${dtype}`, 'a float type');
	const [scales, sizes] = [ctx.constant(2), ctx.constant(3)];
	if ((scales?.length ? 1 : 0) + (sizes?.length ? 1 : 0) !== 1)
		ctx.fail('scales and sizes are given both or neither', 'one of inputs 2 and 3');
	const given = sizes?.length ? sizes : scales!;
	if (given.length !== shape.length || given.some((n) => !(n > 0))) ctx.fail(`[${given}] does not fit`, `${shape.length} positive numbers`);
	return axesOf(shape, scales, sizes);
}

/** Repeats every entry by whole factors, one for each axis (nearest neighbour). */
export function upsample(g: GraphBuilder, x: Value, factors: readonly number[]): Value {
	return factors.every((f) => f === 1) ? x : g.upsampleNearest(x, factors);
}

/** The whole factor by which every entry is repeated, or undefined when the axis is resized otherwise. */
function wholeFactor(taps: readonly Taps[], { from, to }: Axis): number | undefined {
	const factor = to / from;
	return taps.every((t, i) => t.length === 1 && t[0]![0] === Math.floor(i / factor)) && Number.isInteger(factor) ? factor : undefined;
}

function resizeGradient(ctx: VjpContext): Value {
	const { g, attributes } = ctx;
	const { shape, dtype } = ctx.input(0);
	const axes = axesOf(shape, ctx.constant(2), ctx.constant(3));
	const taps = axes.map((axis) => (kept(axis) ? undefined : tapsOf(attributes, axis)));
	const factors = axes.map((axis, i) => (taps[i] ? wholeFactor(taps[i], axis) : 1));
	if (factors.every((f) => f !== undefined)) {
		const blocks = g.reshape(
			ctx.grad(),
			shape.flatMap((d, i) => (factors[i] === 1 ? [d] : [d, factors[i]!])),
		);
		const repeats = factors.flatMap((f, i) => (f === 1 ? [] : [i + factors.slice(0, i).filter((e) => e !== 1).length + 1]));
		return repeats.length === 0 ? ctx.grad() : g.reduceSum(blocks, repeats, false);
	}
	// Interpolation along an axis is a matrix [to, from]; its gradient is the product with the matrix transposed.
	return taps.reduce<Value>((grad, list, axis) => {
		if (!list) return grad;
		const { from, to } = axes[axis]!;
		const matrix = new Float64Array(to * from);
		list.forEach((t, i) => {
			for (const [index, weight] of t) matrix[i * from + index]! += weight;
		});
		return multiplyAxis(g, grad, g.constant(tensor(dtype, [to, from], matrix)), axis);
	}, ctx.grad());
}

/** Product of every line of `x` along `axis` with a matrix [length, new length]. */
function multiplyAxis(g: GraphBuilder, x: Value, matrix: Value, axis: number): Value {
	const rank = x.shape.length;
	const size = matrix.shape[1]!;
	if (axis === rank - 1) return g.reshape(g.matMul(g.reshape(x, [-1, matrix.shape[0]!]), matrix), x.shape.with(axis, size));
	// The axis before the last of three: what stands before it is a batch of products from the left.
	const flat = g.reshape(x, [sizeOf(x.shape.slice(0, axis)), x.shape[axis]!, sizeOf(x.shape.slice(axis + 1))]);
	return g.reshape(g.matMul(swapLast(g, matrix), flat), x.shape.with(axis, size));
}

/** X, roi (unused), scales or sizes. Rounding and coordinates as in ONNX; entries beyond the edge are the edge. */
export const resize: OpDef = {
	inputs: [1, 4],
	outputs: [1, 1],
	attributes: {
		antialias: { kind: 'int', default: 0 },
		coordinate_transformation_mode: { kind: 'string', default: 'half_pixel' },
		// Read by other modes only; exporters write them all the same.
		cubic_coeff_a: { kind: 'float', default: -0.75 },
		exclude_outside: { kind: 'int', default: 0 },
		extrapolation_value: { kind: 'float', default: 0 },
		keep_aspect_ratio_policy: { kind: 'string', default: 'stretch' },
		mode: { kind: 'string', default: 'nearest' },
		nearest_mode: { kind: 'string', default: 'round_prefer_floor' },
	},
	cost: 'cheap',
	infer: (ctx) => [{ dtype: ctx.input(0).dtype, shape: checkResize(ctx).map((axis) => axis.to) }],
	vjp: (ctx) => [resizeGradient(ctx)],
	evaluate(ctx) {
		const x = ctx.input(0);
		const numbers = (i: number) => {
			const t = ctx.inputs[i];
			return t && toNumbers(t);
		};
		const taps = axesOf(x.shape, numbers(2), numbers(3)).map((axis) =>
			kept(axis) ? range(axis.to).map((i): Taps => [[i, 1]]) : tapsOf(ctx.attributes, axis),
		);
		if (ctx.attributes.string('mode') === 'nearest') {
			return [
				takeIndices(
					x,
					taps.map((list) => list.map((t) => t[0]![0])),
				),
			];
		}
		let [values, shape]: [Float64Array, Shape] = [numbersOf(x), x.shape];
		taps.forEach((list, axis) => {
			const next = shape.with(axis, list.length);
			const out = new Float64Array(sizeOf(next));
			const stride = stridesOf(shape)[axis]!;
			const starts = stridesOf(shape).with(axis, 0);
			forEachOffset(next, starts, (i, start) => {
				const at = Math.floor(i / stride) % list.length;
				for (const [index, weight] of list[at]!) out[i]! += values[start + index * stride]! * weight;
			});
			[values, shape] = [out, next];
		});
		return [tensorOf(ctx.outputs[0]!, values)];
	},
};
