/** @file Matrix products. */
import { sizeOf } from '../../core/tensor.ts';
import type { GraphBuilder } from '../builder.ts';
import type { InferContext, OpDef } from '../op.ts';
import { broadcastShapes } from '../shapes.ts';
import type { Value } from '../types.ts';
import { numeric, requireType } from './elementwise.ts';
import type { ProductOp } from './kinds.ts';
import { forEachBroadcast, numbersOf, reduceTo, tensorOf } from './shared.ts';

/** Exchanges the last two axes. */
export function swapLast(g: GraphBuilder, x: Value): Value {
	const rank = x.shape.length;
	return g.transpose(x, [...Array(rank - 2).keys(), rank - 1, rank - 2]);
}

/** Fails unless every operand has the same element type, a numeric one. */
function requireOneType(ctx: InferContext): void {
	requireType(ctx, 0, numeric);
	const { dtype } = ctx.input(0);
	for (const x of ctx.inputs) if (x && x.dtype !== dtype) ctx.fail('element types differ', `${dtype} for every input`);
}

const matMul: OpDef = {
	inputs: [2, 2],
	outputs: [1, 1],
	attributes: {},
	cost: 'heavy',
	infer(ctx) {
		const a = ctx.input(0);
		const b = ctx.input(1);
		requireOneType(ctx);
		if (a.shape.length < 2 || b.shape.length < 2) ctx.fail('both operands must have at least two axes (reshape vectors first)');
		const batch = broadcastShapes(a.shape.slice(0, -2), b.shape.slice(0, -2)) ?? ctx.fail('batch axes do not broadcast');
		if (a.shape.at(-1) !== b.shape.at(-2)) ctx.fail(`inner dimensions differ`, `${a.shape.at(-1)} rows in the second operand`);
		return [{ dtype: a.dtype, shape: [...batch, a.shape.at(-2)!, b.shape.at(-1)!] }];
	},
	vjp(ctx) {
		const { g, needs } = ctx;
		const a = ctx.input(0);
		const b = ctx.input(1);
		const dy = ctx.grad();
		const da = () => reduceTo(g, g.matMul(dy, swapLast(g, b)), a.shape);
		const db = () => {
			if (b.shape.length > 2) return reduceTo(g, g.matMul(swapLast(g, a), dy), b.shape);
			// A weight shared by every row: one product over all rows instead of a batch of products summed afterwards.
			const rows = (x: Value) => (x.shape.length === 2 ? x : g.reshape(x, [sizeOf(x.shape.slice(0, -1)), x.shape.at(-1)!]));
			return g.matMul(swapLast(g, rows(a)), rows(dy));
		};
		return [needs[0] ? da() : undefined, needs[1] ? db() : undefined];
	},
	evaluate(ctx) {
		const [a, b] = [ctx.input(0), ctx.input(1)];
		const type = ctx.outputs[0]!;
		const [m, n] = [type.shape.at(-2)!, type.shape.at(-1)!];
		const k = a.shape.at(-1)!;
		const [x, y] = [numbersOf(a), numbersOf(b)];
		const out = new Float64Array(sizeOf(type.shape));
		const batch = type.shape.slice(0, -2);
		forEachBroadcast(batch, [a.shape.slice(0, -2), b.shape.slice(0, -2)], (index, [oa, ob]) => {
			multiply(x.subarray(oa! * m * k), y.subarray(ob! * k * n), out.subarray(index * m * n), m, n, k);
		});
		return [tensorOf(type, out)];
	},
	macs: ([a], [y]) => sizeOf(y!.shape) * a!.shape.at(-1)!,
};

function multiply(a: Float64Array, b: Float64Array, y: Float64Array, m: number, n: number, k: number): void {
	for (let i = 0; i < m; i++) {
		for (let p = 0; p < k; p++) {
			const f = a[i * k + p]!;
			for (let j = 0; j < n; j++) y[i * n + j]! += f * b[p * n + j]!;
		}
	}
}

const gemm: OpDef = {
	inputs: [2, 3],
	outputs: [1, 1],
	attributes: {
		alpha: { kind: 'float', default: 1 },
		beta: { kind: 'float', default: 1 },
		transA: { kind: 'int', default: 0 },
		transB: { kind: 'int', default: 0 },
	},
	cost: 'heavy',
	infer(ctx) {
		const a = ctx.input(0);
		const b = ctx.input(1);
		requireOneType(ctx);
		if (a.shape.length !== 2 || b.shape.length !== 2) ctx.fail('operands must be matrices');
		const [m, k] = ctx.attributes.int('transA') ? [a.shape[1]!, a.shape[0]!] : [a.shape[0]!, a.shape[1]!];
		const [n, k2] = ctx.attributes.int('transB') ? [b.shape[0]!, b.shape[1]!] : [b.shape[1]!, b.shape[0]!];
		if (k !== k2) ctx.fail('inner dimensions differ', `${k}`);
		const c = ctx.inputs[2];
		if (c && broadcastShapes(c.shape, [m, n])?.join() !== `${m},${n}`) ctx.fail(`third operand does not broadcast to [${m},${n}]`);
		return [{ dtype: a.dtype, shape: [m, n] }];
	},
	vjp(ctx) {
		const { g, needs, attributes } = ctx;
		const [a, b, dy] = [ctx.input(0), ctx.input(1), ctx.grad()];
		const ta = attributes.int('transA') === 1;
		const tb = attributes.int('transB') === 1;
		const alpha = attributes.float('alpha');
		const beta = attributes.float('beta');
		const product = (x: Value, y: Value, transA: boolean, transB: boolean) => g.gemm(x, y, undefined, { transA, transB, alpha });
		const da = () => (ta ? product(b, dy, tb, true) : product(dy, b, false, !tb));
		const db = () => (tb ? product(dy, a, true, ta) : product(a, dy, !ta, false));
		const dc = () => reduceTo(g, beta === 1 ? dy : g.mul(dy, beta), ctx.input(2).shape);
		return [needs[0] ? da() : undefined, needs[1] ? db() : undefined, ...(ctx.inputs[2] ? [needs[2] ? dc() : undefined] : [])];
	},
	evaluate(ctx) {
		const { attributes } = ctx;
		const [a, b] = [ctx.input(0), ctx.input(1)];
		const type = ctx.outputs[0]!;
		const [m, n] = [type.shape[0]!, type.shape[1]!];
		const ta = attributes.int('transA') === 1;
		const tb = attributes.int('transB') === 1;
		const k = ta ? a.shape[0]! : a.shape[1]!;
		const [x, y] = [numbersOf(a), numbersOf(b)];
		const out = new Float64Array(m * n);
		const alpha = attributes.float('alpha');
		for (let i = 0; i < m; i++) {
			for (let j = 0; j < n; j++) {
				let sum = 0;
				for (let p = 0; p < k; p++) sum += (ta ? x[p * m + i]! : x[i * k + p]!) * (tb ? y[j * k + p]! : y[p * n + j]!);
				out[i * n + j] = alpha * sum;
			}
		}
		const c = ctx.inputs[2];
		if (c) {
			const z = numbersOf(c);
			const beta = attributes.float('beta');
			forEachBroadcast(type.shape, [c.shape], (index, [o]) => {
				out[index]! += beta * z[o!]!;
			});
		}
		return [tensorOf(type, out)];
	},
	macs: ([a], [y], attributes) => sizeOf(y!.shape) * (attributes.int('transA') ? a!.shape[0]! : a!.shape[1]!),
};

export const productOps: Record<ProductOp, OpDef> = { MatMul: matMul, Gemm: gemm };
