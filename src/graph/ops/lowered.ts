/**
 * @file Fused operators of ONNX Runtime (domain com.microsoft, documented in its ContribOperators.md), put in place of plain ones when a
 * graph is lowered for it.
 */
import { sizeOf, type Tensor, type TypeShape } from '../../core/tensor.ts';
import type { AttributeReader, EvalContext, InferContext, OpDef } from '../op.ts';
import { broadcastShapes } from '../shapes.ts';
import { gelu } from './activation.ts';
import type { LoweredOp } from './kinds.ts';
import { range, transposeTensor } from './move.ts';
import { productOps } from './product.ts';
import { forEachBroadcast, isFloat, numbersOf, sameAsInput, tensorOf } from './shared.ts';

const lowered = { domain: 'com.microsoft', vjp: 'lowered' } as const;

/** How an operand of FusedMatMul is transposed: first its batch axes behind its first axis (transBatch), then its last two axes (trans). */
function operandPerm(rank: number, trans: boolean, transBatch: boolean): number[] {
	const perm = transBatch ? [...range(rank - 2, 1), 0, rank - 1] : range(rank);
	return trans ? [...perm.slice(0, -2), perm[rank - 1]!, perm[rank - 2]!] : perm;
}

const perms = (attributes: AttributeReader, a: TypeShape, b: TypeShape) =>
	[
		operandPerm(a.shape.length, attributes.int('transA') === 1, attributes.int('transBatchA') === 1),
		operandPerm(b.shape.length, attributes.int('transB') === 1, attributes.int('transBatchB') === 1),
	] as const;

/** alpha * op(A) op(B), where op transposes as the attributes say. */
const fusedMatMul: OpDef = {
	...lowered,
	inputs: [2, 2],
	outputs: [1, 1],
	attributes: {
		alpha: { kind: 'float', default: 1 },
		transA: { kind: 'int', default: 0 },
		transB: { kind: 'int', default: 0 },
		transBatchA: { kind: 'int', default: 0 },
		transBatchB: { kind: 'int', default: 0 },
	},
	cost: 'heavy',
	infer(ctx) {
		const [a, b] = [ctx.input(0), ctx.input(1)];
		const { attributes } = ctx;
		if (a.dtype !== b.dtype) ctx.fail('element types differ');
		if (a.shape.length < 2 || b.shape.length < 2) ctx.fail('both operands must have at least two axes');
		if (attributes.int('transBatchA') === 1 || attributes.int('transBatchB') === 1) {
			if (a.shape.length < 3 || a.shape.length !== b.shape.length) ctx.fail('transBatch needs operands of one rank of at least three');
		}
		const [permA, permB] = perms(attributes, a, b);
		const [left, right] = [permA.map((p) => a.shape[p]!), permB.map((p) => b.shape[p]!)];
		const batch = broadcastShapes(left.slice(0, -2), right.slice(0, -2)) ?? ctx.fail('batch axes do not broadcast');
		if (left.at(-1) !== right.at(-2)) ctx.fail(`inner dimensions ${left.at(-1)} and ${right.at(-2)} differ`);
		return [{ dtype: a.dtype, shape: [...batch, left.at(-2)!, right.at(-1)!] }];
	},
	evaluate(ctx) {
		const [permA, permB] = perms(ctx.attributes, ctx.input(0), ctx.input(1));
		const alpha = ctx.attributes.float('alpha');
		const a = transposeTensor(ctx.input(0), permA);
		// Scaled in float64, so that the product is still rounded once.
		const scaled: Tensor = { dtype: 'float64', shape: a.shape, data: numbersOf(a).map((v) => alpha * v) };
		const inputs = [scaled, transposeTensor(ctx.input(1), permB)];
		return productOps.MatMul.evaluate({ ...ctx, inputs, input: (i) => inputs[i]! });
	},
	macs: ([a, b], [y], attributes) => sizeOf(y!.shape) * a!.shape[perms(attributes, a!, b!)[0].at(-1)!]!,
};

/** Fails unless input `i`, where given, is a vector over the last axis of input 0. */
function checkVector(ctx: InferContext, i: number): void {
	const [x, v] = [ctx.input(0), ctx.inputs[i]];
	if (v && (v.dtype !== x.dtype || v.shape.join() !== `${x.shape.at(-1)}`))
		ctx.fail(`input ${i} does not fit`, `${x.dtype}[${x.shape.at(-1)}]`);
}

const biasedActivation = (inputs: readonly [number, number], f: (x: number) => number): OpDef => ({
	...lowered,
	inputs,
	outputs: [1, 1],
	attributes: {},
	cost: 'cheap',
	infer(ctx) {
		if (!isFloat(ctx.input(0).dtype)) ctx.fail('input must have a float type');
		checkVector(ctx, 1);
		return sameAsInput(ctx);
	},
	evaluate(ctx) {
		const bias = ctx.inputs[1] && numbersOf(ctx.inputs[1]);
		const width = ctx.input(0).shape.at(-1) ?? 1;
		return [
			tensorOf(
				ctx.outputs[0]!,
				numbersOf(ctx.input(0)).map((x, i) => f(x + (bias ? bias[i % width]! : 0))),
			),
		];
	},
});

/** x sigmoid(alpha x). */
const quickGelu: OpDef = {
	...lowered,
	inputs: [1, 1],
	outputs: [1, 1],
	attributes: { alpha: { kind: 'float', default: 1.702 } },
	cost: 'cheap',
	infer(ctx) {
		if (!isFloat(ctx.input(0).dtype)) ctx.fail('input must have a float type');
		return sameAsInput(ctx);
	},
	evaluate(ctx) {
		const alpha = ctx.attributes.float('alpha');
		return [
			tensorOf(
				ctx.outputs[0]!,
				numbersOf(ctx.input(0)).map((x) => x / (1 + Math.exp(-alpha * x))),
			),
		];
	},
};

/**
 * LayerNormalization over the last axis of input + skip (+ bias), then gamma and beta. Inputs: input, skip, gamma, beta, bias. Outputs: the
 * result, mean and inverse standard deviation (float32, last axis 1), and the sum that was normalised.
 */
const skipLayerNormalization: OpDef = {
	...lowered,
	inputs: [3, 5],
	outputs: [1, 4],
	attributes: { epsilon: { kind: 'float', default: 1e-12 } },
	cost: 'cheap',
	infer(ctx) {
		const [x, skip] = [ctx.input(0), ctx.input(1)];
		if (x.shape.length !== 3 || !isFloat(x.dtype)) ctx.fail('input must be [batch, sequence, hidden] of a float type');
		const [, sequence, hidden] = x.shape as [number, number, number];
		const allowed = [x.shape.join(), `1,${sequence},${hidden}`, `${sequence},${hidden}`];
		if (skip.dtype !== x.dtype || !allowed.includes(skip.shape.join())) {
			ctx.fail('skip does not fit the input', allowed.map((s) => `${x.dtype}[${s}]`).join(' or '));
		}
		for (const i of [2, 3, 4]) checkVector(ctx, i);
		const statistic: TypeShape = { dtype: 'float32', shape: x.shape.with(-1, 1) };
		const whole: TypeShape = { dtype: x.dtype, shape: x.shape };
		return [whole, statistic, statistic, whole].slice(0, ctx.outputCount);
	},
	evaluate(ctx) {
		const { shape } = ctx.input(0);
		const hidden = shape.at(-1)!;
		const [gamma, beta, bias] = [numbersOf(ctx.input(2)), optional(ctx, 3), optional(ctx, 4)];
		const [xs, skip] = [numbersOf(ctx.input(0)), numbersOf(ctx.input(1))];
		const sum = new Float64Array(xs.length);
		forEachBroadcast(shape, [ctx.input(1).shape], (i, [at]) => {
			sum[i] = xs[i]! + skip[at!]! + (bias ? bias[i % hidden]! : 0);
		});
		const rows = range(sizeOf(shape.slice(0, -1))).map((r) => sum.subarray(r * hidden, (r + 1) * hidden));
		const means = rows.map((row) => row.reduce((a, b) => a + b, 0) / hidden);
		const epsilon = ctx.attributes.float('epsilon');
		const inverses = rows.map((row, r) => 1 / Math.sqrt(row.reduce((a, b) => a + (b - means[r]!) ** 2, 0) / hidden + epsilon));
		const result = sum.map((v, i) => {
			const r = Math.floor(i / hidden);
			return (v - means[r]!) * inverses[r]! * gamma[i % hidden]! + (beta ? beta[i % hidden]! : 0);
		});
		return ctx.outputs.map((type, i) => tensorOf(type, [result, means, inverses, sum][i]!));
	},
};

const optional = (ctx: EvalContext, i: number): Float64Array | undefined => ctx.inputs[i] && numbersOf(ctx.inputs[i]);

export const loweredOps: Record<LoweredOp, OpDef> = {
	FusedMatMul: fusedMatMul,
	FastGelu: biasedActivation([1, 2], (x) => gelu(x, 'tanh')),
	QuickGelu: quickGelu,
	BiasGelu: biasedActivation([2, 2], (x) => gelu(x, 'none')),
	SkipLayerNormalization: skipLayerNormalization,
};
