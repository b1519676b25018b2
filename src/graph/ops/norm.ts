/** @file Normalisation to zero mean and unit variance: over trailing axes (layer), over groups of channels, over single channels (instance). */
import { type DType, sizeOf } from '../../core/tensor.ts';
import type { GraphBuilder } from '../builder.ts';
import type { InferContext, OpDef, VjpContext } from '../op.ts';
import { broadcastShapes, normalizeAxis } from '../shapes.ts';
import type { Value } from '../types.ts';
import { floats, requireType } from './elementwise.ts';
import type { NormOp } from './kinds.ts';
import { forEachBroadcast, numbersOf, reduceTo, sameAsInput, tensorOf } from './shared.ts';

/** Statistics are kept in float32 or better (stash_type 1). */
const statisticsType = (dtype: DType): DType => (dtype === 'float64' ? 'float64' : 'float32');

/** Mean and 1 / sqrt(variance + epsilon) of every run of `length` elements, with the biased variance. */
function statistics(x: Float64Array, length: number, epsilon: number): { mean: Float64Array; invStdDev: Float64Array } {
	const rows = length === 0 ? 0 : x.length / length;
	const mean = new Float64Array(rows);
	const invStdDev = new Float64Array(rows);
	for (let r = 0; r < rows; r++) {
		const row = x.subarray(r * length, (r + 1) * length);
		const m = row.reduce((s, v) => s + v, 0) / length;
		mean[r] = m;
		invStdDev[r] = 1 / Math.sqrt(row.reduce((s, v) => s + (v - m) ** 2, 0) / length + epsilon);
	}
	return { mean, invStdDev };
}

function requireStash(ctx: InferContext): void {
	const type = ctx.attributes.int('stash_type');
	if (type !== 1) ctx.fail(`stash_type ${type} is not supported`, '1 (float32 statistics)');
}

/** True when `v` is a constant of ones, so that multiplying by it does nothing. */
function isOnes(g: GraphBuilder, v: Value): boolean {
	return g.constantOf(v)?.every((x) => x === 1) ?? false;
}

/**
 * Gradients of x, scale and bias from the saved statistics. With a = dy scale, c = x - mean, r = 1 / standard deviation and means over the
 * normalised axes, dx = r a - c (r^3 mean(a c)) - r mean(a): everything in brackets or without a or c is small. Working with c in place of
 * the normalised x saves a pass, unless the output is the normalised x itself, n = r c: then dx = r a - n (r mean(a n)) - r mean(a), and x need
 * not be kept. Gradients of the statistics themselves join the small terms.
 */
function layerGradient(ctx: VjpContext): readonly (Value | undefined)[] {
	const { g, needs, attributes } = ctx;
	const [x, scale] = [ctx.input(0), ctx.input(1)];
	const first = attributes.int('axis');
	const axes = x.shape.flatMap((_, i) => (i >= (first < 0 ? first + x.shape.length : first) ? [i] : []));
	const share = 1 / axes.reduce((n, i) => n * x.shape[i]!, 1);
	const [, mean, inverse] = ctx.outputs.length === 3 ? ctx.outputs : g.emit('LayerNormalization', [x, scale], ctx.rawAttributes, 3);
	const [dy = g.expand(g.scalar(0, x.dtype), x.shape), dMean, dInverse] = ctx.grads;
	const inv = g.cast(inverse!, x.dtype);
	const plain = isOnes(g, scale);
	const normal = plain && !ctx.inputs[2] ? ctx.outputs[0] : undefined;
	const centred = normal ?? (needs[0] || needs[1] ? g.sub(x, g.cast(mean!, x.dtype)) : x);
	const plus = (sum: Value, extra: Value | undefined, sign: 1 | -1) =>
		extra ? g.add(sum, g.mul(g.cast(extra, x.dtype), sign * share)) : sum;
	const dx = () => {
		const a = plain ? dy : g.mul(dy, scale);
		const product = g.reduceMean(g.mul(a, centred), axes);
		const along = normal
			? g.mul(inv, plus(product, dInverse && g.mul(dInverse, inverse!), 1))
			: g.mul(g.mul(g.mul(inv, inv), inv), plus(product, dInverse, 1));
		const constant = plus(g.mul(inv, g.reduceMean(a, axes)), dMean, -1);
		return g.sub(g.sub(g.mul(a, inv), g.mul(centred, along)), constant);
	};
	return [
		needs[0] ? dx() : undefined,
		needs[1] ? reduceTo(g, normal ? g.mul(dy, normal) : g.mul(g.mul(dy, centred), inv), scale.shape) : undefined,
		...(needs[2] ? [reduceTo(g, dy, ctx.input(2).shape)] : []),
	];
}

const layerNormalization: OpDef = {
	inputs: [2, 3],
	outputs: [1, 3],
	attributes: { axis: { kind: 'int', default: -1 }, epsilon: { kind: 'float', default: 1e-5 }, stash_type: { kind: 'int', default: 1 } },
	cost: 'cheap',
	infer(ctx) {
		requireType(ctx, 0, floats);
		requireStash(ctx);
		const x = ctx.input(0);
		const axis = normalizeAxis(ctx.attributes.int('axis'), x.shape.length, ctx.fail);
		ctx.inputs.slice(1).forEach((v, i) => {
			if (!v) return;
			const name = i === 0 ? 'scale' : 'bias';
			if (v.dtype !== x.dtype) ctx.fail('element types differ', `${x.dtype} for every input`);
			if (broadcastShapes(v.shape, x.shape)?.join() !== x.shape.join()) {
				ctx.fail(`${name} [${v.shape.join(',')}] does not broadcast to the input`, `[${x.shape.slice(axis).join(',')}]`);
			}
		});
		const kept = { dtype: statisticsType(x.dtype), shape: x.shape.map((d, i) => (i < axis ? d : 1)) };
		return [{ dtype: x.dtype, shape: x.shape }, kept, kept].slice(0, ctx.outputCount);
	},
	vjp: layerGradient,
	evaluate(ctx) {
		const { shape } = ctx.input(0);
		const axis = ctx.attributes.int('axis');
		const x = numbersOf(ctx.input(0));
		const length = sizeOf(shape.slice(axis));
		const { mean, invStdDev } = statistics(x, length, ctx.attributes.float('epsilon'));
		const parameters = ctx.inputs.slice(1).flatMap((t) => (t ? [{ shape: t.shape, data: numbersOf(t) }] : []));
		const y = new Float64Array(x.length);
		forEachBroadcast(
			shape,
			parameters.map((p) => p.shape),
			(index, [s, b]) => {
				const row = Math.floor(index / length);
				const normal = (x[index]! - mean[row]!) * invStdDev[row]!;
				y[index] = normal * parameters[0]!.data[s!]! + (parameters[1]?.data[b!] ?? 0);
			},
		);
		return [y, mean, invStdDev].slice(0, ctx.outputs.length).map((values, i) => tensorOf(ctx.outputs[i]!, values));
	},
};

/**
 * The same gradients for groups of channels, with statistics computed again (the operator has one output). Sums over each channel's plane come
 * first; what follows from them is small. x is seen as [batch, groups, channels of a group, plane].
 */
function channelGradient(ctx: VjpContext, groups: number): readonly (Value | undefined)[] {
	const { g, needs } = ctx;
	const { shape } = ctx.input(0);
	const channels = shape[1]!;
	const perGroup = channels / groups;
	const plane = sizeOf(shape.slice(2));
	const split = (v: Value) => g.reshape(v, [shape[0]!, groups, perGroup, plane]);
	const dy = split(ctx.grad());
	const sums = needs[0] || needs[2] ? g.reduceSum(dy, [3]) : dy;
	const dBias = needs[2] ? g.reshape(g.reduceSum(sums, [0]), [channels]) : undefined;
	if (!needs[0] && !needs[1]) return [undefined, undefined, dBias];
	const x = split(ctx.input(0));
	const centred = g.sub(x, g.reduceMean(x, [2, 3]));
	const variance = g.reduceMean(g.mul(centred, centred), [2, 3]);
	const inv = g.reciprocal(g.sqrt(g.add(variance, ctx.attributes.float('epsilon'))));
	const products = g.reduceSum(g.mul(dy, centred), [3]);
	const dScale = needs[1] ? g.reshape(g.reduceSum(g.mul(products, inv), [0]), [channels]) : undefined;
	if (!needs[0]) return [undefined, dScale, dBias];
	const scale = g.reshape(ctx.input(1), [1, groups, perGroup, 1]);
	const mean = (v: Value) => g.mul(g.reduceSum(g.mul(v, scale), [2]), 1 / (perGroup * plane));
	const along = g.mul(g.mul(g.mul(inv, inv), inv), mean(products));
	const dx = g.sub(g.sub(g.mul(dy, g.mul(scale, inv)), g.mul(centred, along)), g.mul(inv, mean(sums)));
	return [g.reshape(dx, shape), dScale, dBias];
}

/** Operators that normalise within each sample over groups of channels; scale and bias are per channel. */
const channelNormalization = (
	groupsOf: (ctx: Pick<InferContext, 'attributes'>, channels: number) => number,
	attributes: OpDef['attributes'],
): OpDef => ({
	inputs: [3, 3],
	outputs: [1, 1],
	attributes: { ...attributes, epsilon: { kind: 'float', default: 1e-5 } },
	cost: 'cheap',
	infer(ctx) {
		requireType(ctx, 0, floats);
		if (attributes.stash_type) requireStash(ctx);
		const { dtype, shape } = ctx.input(0);
		const channels = shape[1];
		if (shape.length < 3 || channels === undefined) return ctx.fail('the input has no spatial axes', '[batch, channels, ...spatial]');
		const groups = groupsOf(ctx, channels);
		if (groups < 1 || channels % groups !== 0) ctx.fail(`${channels} channels do not split into ${groups} groups`);
		for (const [i, name] of [
			[1, 'scale'],
			[2, 'bias'],
		] as const) {
			const v = ctx.input(i);
			if (v.dtype !== dtype) ctx.fail('element types differ', `${dtype} for every input`);
			if (v.shape.length !== 1 || v.shape[0] !== channels)
				ctx.fail(`${name} [${v.shape.join(',')}] does not match the channels`, `[${channels}]`);
		}
		return sameAsInput(ctx);
	},
	vjp: (ctx) => channelGradient(ctx, groupsOf(ctx, ctx.input(0).shape[1]!)),
	evaluate(ctx) {
		const { shape } = ctx.input(0);
		const [x, scale, bias] = [0, 1, 2].map((i) => numbersOf(ctx.input(i))) as [Float64Array, Float64Array, Float64Array];
		const channels = shape[1]!;
		const plane = sizeOf(shape.slice(2));
		const perGroup = channels / groupsOf(ctx, channels);
		const { mean, invStdDev } = statistics(x, perGroup * plane, ctx.attributes.float('epsilon'));
		const y = x.map((v, i) => {
			const c = Math.floor(i / plane);
			const row = Math.floor(c / perGroup);
			return (v - mean[row]!) * invStdDev[row]! * scale[c % channels]! + bias[c % channels]!;
		});
		return [tensorOf(ctx.outputs[0]!, y)];
	},
});

export const normOps: Record<NormOp, OpDef> = {
	LayerNormalization: layerNormalization,
	GroupNormalization: channelNormalization((ctx) => ctx.attributes.int('num_groups'), {
		num_groups: { kind: 'int' },
		stash_type: { kind: 'int', default: 1 },
	}),
	InstanceNormalization: channelNormalization((_, channels) => channels, {}),
};
