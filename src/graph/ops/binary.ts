/** @file Elementwise arithmetic of two (or more) broadcasting operands. */
import type { OpDef, VjpContext } from '../op.ts';
import type { Value } from '../types.ts';
import type { BinaryOp } from './kinds.ts';
import { broadcastInfer, evaluateBroadcast, reduceTo } from './shared.ts';

const two: Pick<OpDef, 'inputs' | 'outputs' | 'attributes' | 'cost'> = { inputs: [2, 2], outputs: [1, 1], attributes: {}, cost: 'cheap' };

const define = (f: (a: number, b: number) => number, vjp: OpDef['vjp']): OpDef => ({
	...two,
	infer: (ctx) => [broadcastInfer(ctx)],
	vjp,
	evaluate: (ctx) => evaluateBroadcast(ctx, f as (...xs: number[]) => number),
});

/** Gradients of both operands, each built only where needed and summed back over broadcast axes. */
const both = (ctx: VjpContext, da: () => Value, db: () => Value): readonly (Value | undefined)[] =>
	[da, db].map((d, i) => (ctx.needs[i] ? reduceTo(ctx.g, d(), ctx.input(i).shape) : undefined));

/** Max and Min pass the gradient to the operand chosen; at a tie to the first. */
const chosen =
	(firstWins: (ctx: VjpContext) => Value): OpDef['vjp'] =>
	(ctx) => {
		const { g } = ctx;
		const mask = g.cast(firstWins(ctx), ctx.grad().dtype);
		return both(
			ctx,
			() => g.mul(ctx.grad(), mask),
			() => g.mul(ctx.grad(), g.sub(1, mask)),
		);
	};

export const binaryOps: Record<BinaryOp, OpDef> = {
	Add: define(
		(a, b) => a + b,
		(ctx) => both(ctx, ctx.grad, ctx.grad),
	),
	Sub: define(
		(a, b) => a - b,
		(ctx) => both(ctx, ctx.grad, () => ctx.g.neg(ctx.grad())),
	),
	Mul: define(
		(a, b) => a * b,
		(ctx) =>
			both(
				ctx,
				() => ctx.g.mul(ctx.grad(), ctx.input(1)),
				() => ctx.g.mul(ctx.grad(), ctx.input(0)),
			),
	),
	Div: define(
		(a, b) => a / b,
		(ctx) =>
			both(
				ctx,
				() => ctx.g.div(ctx.grad(), ctx.input(1)),
				() => ctx.g.neg(ctx.g.div(ctx.g.mul(ctx.grad(), ctx.outputs[0]!), ctx.input(1))),
			),
	),
	Pow: define(
		(a, b) => a ** b,
		(ctx) =>
			both(
				ctx,
				() => ctx.g.mul(ctx.grad(), ctx.g.mul(ctx.input(1), ctx.g.pow(ctx.input(0), ctx.g.sub(ctx.input(1), 1)))),
				() => ctx.g.mul(ctx.grad(), ctx.g.mul(ctx.outputs[0]!, ctx.g.log(ctx.input(0)))),
			),
	),
	Max: define(
		Math.max,
		chosen((ctx) => ctx.g.greaterOrEqual(ctx.input(0), ctx.input(1))),
	),
	Min: define(
		Math.min,
		chosen((ctx) => ctx.g.lessOrEqual(ctx.input(0), ctx.input(1))),
	),
	// fmod = 1 is C's remainder (sign of the dividend); 0 follows the divisor and is for integers.
	Mod: {
		...two,
		attributes: { fmod: { kind: 'int', default: 0 } },
		infer: (ctx) => [broadcastInfer(ctx)],
		vjp: 'none',
		evaluate: (ctx) =>
			evaluateBroadcast(ctx, ctx.attributes.int('fmod') ? (...[a, b]) => a! % b! : (...[a, b]) => a! - Math.floor(a! / b!) * b!),
	},
};
