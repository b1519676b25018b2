/** @file Operators that give the same elements another shape or order. Joining and cutting are in cut.ts, padding in pad.ts. */
import { sizeOf, type Tensor } from '../../core/tensor.ts';
import type { EvalContext, InferContext, OpDef, VjpContext } from '../op.ts';
import { broadcastShapes, normalizeAxis } from '../shapes.ts';
import type { Value } from '../types.ts';
import { cutOps } from './cut.ts';
import type { ShapeOp } from './kinds.ts';
import { range, takeIndices, takeOffsets, transposeTensor } from './move.ts';
import { padOps } from './pad.ts';
import { broadcastStrides, reduceTo } from './shared.ts';

/** The same elements under the output's shape. */
const relabel = (ctx: EvalContext): readonly Tensor[] => [{ ...ctx.input(0), shape: ctx.outputs[0]!.shape }];

/** Gradient of everything that only relabels: the input's shape back. */
const relabelBack = (ctx: VjpContext): readonly (Value | undefined)[] => [ctx.g.reshape(ctx.grad(), ctx.input(0).shape)];

const view: Pick<OpDef, 'outputs' | 'cost' | 'vjp' | 'evaluate'> = { outputs: [1, 1], cost: 'view', vjp: relabelBack, evaluate: relabel };

const reshape: OpDef = {
	...view,
	inputs: [2, 2],
	attributes: { allowzero: { kind: 'int', default: 0 } },
	infer(ctx) {
		const { dtype, shape: from } = ctx.input(0);
		const wanted = ctx.constant(1)!;
		const keepsZero = ctx.attributes.int('allowzero') === 1;
		const given = wanted.map((d, i) => {
			if (d < -1) ctx.fail(`shape [${wanted}] has a negative dimension`, 'dimensions, and at most one -1');
			return d === 0 && !keepsZero ? (from[i] ?? ctx.fail(`shape [${wanted}] copies axis ${i}, which the input does not have`)) : d;
		});
		const open = given.indexOf(-1);
		if (open !== given.lastIndexOf(-1)) ctx.fail(`shape [${wanted}] leaves more than one dimension open`, 'at most one -1');
		const total = sizeOf(from);
		if (open >= 0) {
			const rest = given.reduce((n, d, i) => (i === open ? n : n * d), 1);
			if (rest === 0)
				ctx.fail(`shape [${wanted}] leaves a dimension open beside an empty one`, 'the size of every dimension, since any would do for -1');
			if (total % rest !== 0) ctx.fail(`${total} elements do not fill shape [${wanted}]`);
			given[open] = total / rest;
		}
		if (sizeOf(given) !== total) ctx.fail(`${total} elements do not fill shape [${wanted}]`, `${sizeOf(given)} elements`);
		return [{ dtype, shape: given }];
	},
};

const squeeze: OpDef = {
	...view,
	inputs: [1, 2],
	attributes: {},
	infer(ctx) {
		const { dtype, shape } = ctx.input(0);
		const axes = ctx.constant(1)?.map((a) => normalizeAxis(a, shape.length, ctx.fail));
		for (const a of axes ?? []) if (shape[a] !== 1) ctx.fail(`axis ${a} has ${shape[a]} entries`, '1');
		return [{ dtype, shape: shape.filter((d, i) => (axes ? !axes.includes(i) : d !== 1)) }];
	},
};

const unsqueeze: OpDef = {
	...view,
	inputs: [2, 2],
	attributes: {},
	infer(ctx) {
		const { dtype, shape } = ctx.input(0);
		const wanted = ctx.constant(1)!;
		const rank = shape.length + wanted.length;
		const axes = new Set(wanted.map((a) => normalizeAxis(a, rank, ctx.fail)));
		if (axes.size !== wanted.length) ctx.fail(`axes [${wanted}] repeat`);
		const rest = shape.values();
		return [{ dtype, shape: range(rank).map((i) => (axes.has(i) ? 1 : rest.next().value!)) }];
	},
};

const flatten: OpDef = {
	...view,
	inputs: [1, 1],
	attributes: { axis: { kind: 'int', default: 1 } },
	infer(ctx) {
		const { dtype, shape } = ctx.input(0);
		const axis = ctx.attributes.int('axis');
		if (axis < -shape.length || axis > shape.length) ctx.fail(`axis ${axis} is out of range`, `${-shape.length} to ${shape.length}`);
		const at = axis < 0 ? axis + shape.length : axis;
		return [{ dtype, shape: [sizeOf(shape.slice(0, at)), sizeOf(shape.slice(at))] }];
	},
};

/** The permutation of a Transpose; reversed axes when none is given. */
const permOf = ({ attributes }: Pick<InferContext, 'attributes'>, rank: number): readonly number[] =>
	attributes.has('perm') ? attributes.ints('perm') : range(rank).reverse();

const transpose: OpDef = {
	inputs: [1, 1],
	outputs: [1, 1],
	attributes: { perm: { kind: 'ints' } },
	cost: 'cheap',
	infer(ctx) {
		const { dtype, shape } = ctx.input(0);
		const perm = permOf(ctx, shape.length);
		if ([...perm].sort((a, b) => a - b).join() !== range(shape.length).join()) {
			ctx.fail(`perm [${perm}] does not name every axis once`, `an order of 0 to ${shape.length - 1}`);
		}
		return [{ dtype, shape: perm.map((p) => shape[p]!) }];
	},
	vjp(ctx) {
		const perm = permOf(ctx, ctx.input(0).shape.length);
		return [
			ctx.g.transpose(
				ctx.grad(),
				range(perm.length).map((i) => perm.indexOf(i)),
			),
		];
	},
	evaluate: (ctx) => [transposeTensor(ctx.input(0), permOf(ctx, ctx.input(0).shape.length))],
};

const expand: OpDef = {
	inputs: [2, 2],
	outputs: [1, 1],
	attributes: {},
	cost: 'cheap',
	infer(ctx) {
		const { dtype, shape } = ctx.input(0);
		const wanted = ctx.constant(1)!;
		return [{ dtype, shape: broadcastShapes(shape, wanted) ?? ctx.fail(`does not broadcast with shape [${wanted}]`) }];
	},
	vjp: (ctx) => [reduceTo(ctx.g, ctx.grad(), ctx.input(0).shape)],
	evaluate(ctx) {
		const x = ctx.input(0);
		const { shape } = ctx.outputs[0]!;
		const strides = broadcastStrides(x.shape, shape);
		return [
			takeOffsets(
				x,
				shape,
				shape.map((d, i) => range(d, 0, strides[i]!)),
			),
		];
	},
};

const tile: OpDef = {
	inputs: [2, 2],
	outputs: [1, 1],
	attributes: {},
	cost: 'cheap',
	infer(ctx) {
		const { dtype, shape } = ctx.input(0);
		const repeats = ctx.constant(1)!;
		if (repeats.length !== shape.length) ctx.fail(`${repeats.length} repeats given`, `one for each of ${shape.length} axes`);
		if (repeats.some((r) => r < 0)) ctx.fail(`repeats [${repeats}] has a negative count`);
		return [{ dtype, shape: shape.map((d, i) => d * repeats[i]!) }];
	},
	vjp(ctx) {
		const { g } = ctx;
		const { shape } = ctx.input(0);
		const repeats = ctx.constant(1)!;
		const parts = shape.flatMap((d, i) => [repeats[i]!, d]);
		const axes = repeats.flatMap((r, i) => (r === 1 ? [] : [2 * i]));
		return [axes.length === 0 ? ctx.grad() : g.reshape(g.reduceSum(g.reshape(ctx.grad(), parts), axes, false), shape)];
	},
	evaluate(ctx) {
		const x = ctx.input(0);
		return [
			takeIndices(
				x,
				ctx.outputs[0]!.shape.map((d, i) => range(d).map((j) => j % x.shape[i]!)),
			),
		];
	},
};

/** Checks a [batch, channels, height, width] input and returns its sizes with the block size. */
function imageAndBlock(ctx: InferContext) {
	const { dtype, shape } = ctx.input(0);
	const block = ctx.attributes.int('blocksize');
	if (shape.length !== 4) ctx.fail('input must have four axes', '[batch, channels, height, width]');
	if (block < 1) ctx.fail(`blocksize ${block} is not positive`);
	const [n, c, h, w] = shape as [number, number, number, number];
	return { dtype, block, n, c, h, w };
}

/** The same elements with `block` x `block` channels laid out in space, or back, by way of a tensor of `shape` transposed by `perm`. */
const rearrange = (ctx: EvalContext, shape: readonly number[], perm: readonly number[]): readonly Tensor[] => [
	{ ...transposeTensor({ ...ctx.input(0), shape }, perm), shape: ctx.outputs[0]!.shape },
];

const depthToSpace: OpDef = {
	inputs: [1, 1],
	outputs: [1, 1],
	attributes: { blocksize: { kind: 'int' }, mode: { kind: 'string', default: 'DCR' } },
	cost: 'cheap',
	infer(ctx) {
		const { dtype, block, n, c, h, w } = imageAndBlock(ctx);
		const mode = ctx.attributes.string('mode');
		if (mode !== 'DCR' && mode !== 'CRD') ctx.fail(`mode ${mode} is not known`, 'DCR or CRD');
		if (c % (block * block) !== 0) ctx.fail(`${c} channels`, `a multiple of blocksize squared, ${block * block}`);
		return [{ dtype, shape: [n, c / (block * block), h * block, w * block] }];
	},
	vjp(ctx) {
		const { g, attributes } = ctx;
		const b = attributes.int('blocksize');
		if (attributes.string('mode') === 'DCR') return [g.spaceToDepth(ctx.grad(), b)];
		const [n, c, h, w] = ctx.input(0).shape as [number, number, number, number];
		const blocks = g.reshape(ctx.grad(), [n, c / (b * b), h, b, w, b]);
		return [g.reshape(g.transpose(blocks, [0, 1, 3, 5, 2, 4]), [n, c, h, w])];
	},
	evaluate(ctx) {
		const b = ctx.attributes.int('blocksize');
		const [n, c, h, w] = ctx.input(0).shape as [number, number, number, number];
		const depth = c / (b * b);
		return ctx.attributes.string('mode') === 'DCR'
			? rearrange(ctx, [n, b, b, depth, h, w], [0, 3, 4, 1, 5, 2])
			: rearrange(ctx, [n, depth, b, b, h, w], [0, 1, 4, 2, 5, 3]);
	},
};

const spaceToDepth: OpDef = {
	inputs: [1, 1],
	outputs: [1, 1],
	attributes: { blocksize: { kind: 'int' } },
	cost: 'cheap',
	infer(ctx) {
		const { dtype, block, n, c, h, w } = imageAndBlock(ctx);
		if (h % block !== 0 || w % block !== 0) ctx.fail(`height ${h} and width ${w}`, `multiples of blocksize ${block}`);
		return [{ dtype, shape: [n, c * block * block, h / block, w / block] }];
	},
	vjp: (ctx) => [ctx.g.depthToSpace(ctx.grad(), ctx.attributes.int('blocksize'), 'DCR')],
	evaluate(ctx) {
		const b = ctx.attributes.int('blocksize');
		const [n, c, h, w] = ctx.input(0).shape as [number, number, number, number];
		return rearrange(ctx, [n, c, h / b, b, w / b, b], [0, 3, 5, 1, 2, 4]);
	},
};

export const shapeOps: Record<ShapeOp, OpDef> = {
	Reshape: reshape,
	Transpose: transpose,
	Expand: expand,
	Squeeze: squeeze,
	Unsqueeze: unsqueeze,
	Flatten: flatten,
	Tile: tile,
	DepthToSpace: depthToSpace,
	SpaceToDepth: spaceToDepth,
	...cutOps,
	...padOps,
};
