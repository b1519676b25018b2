/** @file Elementwise arithmetic of two (or more) broadcasting operands. */
import type { TypeShape } from '../../core/tensor.ts';
import type { EvalContext, InferContext, OpDef, VjpContext } from '../op.ts';
import type { Value } from '../types.ts';
import { numeric, requireType } from './elementwise.ts';
import type { BinaryOp } from './kinds.ts';
import { broadcastInfer, evaluateBroadcast, isFloat, reduceTo } from './shared.ts';

const two: Pick<OpDef, 'inputs' | 'outputs' | 'attributes' | 'cost'> = { inputs: [2, 2], outputs: [1, 1], attributes: {}, cost: 'cheap' };

function infer(ctx: InferContext): readonly [TypeShape] {
	requireType(ctx, 0, numeric);
	return [broadcastInfer(ctx)];
}

const define = (f: (a: number, b: number) => number, vjp: OpDef['vjp']): OpDef => ({
	...two,
	infer,
	vjp,
	evaluate: (ctx) => evaluateBroadcast(ctx, f as (...xs: number[]) => number),
});

/** Evaluation of a division: floats have a result for a divisor of 0, whole numbers have none. */
function divide(ctx: EvalContext, f: (a: number, b: number) => number) {
	const whole = !isFloat(ctx.outputs[0]!.dtype);
	return evaluateBroadcast(ctx, (...[a, b]) => (whole && b === 0 ? ctx.fail('a whole number is divided by 0') : f(a!, b!)));
}

/** Gradients of both operands, each built only where needed and summed back over broadcast axes. */
const both = (ctx: VjpContext, da: () => Value | undefined, db: () => Value): readonly (Value | undefined)[] =>
	[da, db].map((d, i) => {
		const grad = ctx.needs[i] ? d() : undefined;
		return grad && reduceTo(ctx.g, grad, ctx.input(i).shape);
	});

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

/** Gradient of the base of Pow. A power is dear, so the exponents models square and take roots with do without one. */
function powBase(ctx: VjpContext): Value | undefined {
	const { g, constant, grad, input, outputs } = ctx;
	const x = input(0);
	const exponents = constant(1) ?? [];
	const p = exponents.every((e) => e === exponents[0]) ? exponents[0] : undefined;
	switch (p) {
		case undefined:
			return g.mul(grad(), g.mul(input(1), g.pow(x, g.sub(input(1), 1))));
		case 0:
			return undefined;
		case 0.5:
			return g.mul(g.div(grad(), outputs[0]!), 0.5);
		case 1:
			return grad();
		case 2:
			return g.mul(grad(), g.mul(x, 2));
		default:
			return g.mul(grad(), g.mul(g.pow(x, p - 1), p));
	}
}

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
	Div: {
		...two,
		infer,
		vjp: (ctx) =>
			both(
				ctx,
				() => ctx.g.div(ctx.grad(), ctx.input(1)),
				() => ctx.g.neg(ctx.g.div(ctx.g.mul(ctx.grad(), ctx.outputs[0]!), ctx.input(1))),
			),
		evaluate: (ctx) => divide(ctx, (a, b) => a / b),
	},
	Pow: define(
		(a, b) => a ** b,
		(ctx) =>
			both(
				ctx,
				() => powBase(ctx),
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
	// fmod = 1 is C's remainder (sign of the dividend); 0 follows the divisor and is for integers alone.
	Mod: {
		...two,
		attributes: { fmod: { kind: 'int', default: 0 } },
		infer(ctx) {
			const [type] = infer(ctx);
			if (isFloat(type.dtype) && ctx.attributes.int('fmod') !== 1)
				ctx.fail(`the remainder of ${type.dtype} follows the dividend`, 'fmod = 1');
			return [type];
		},
		vjp: 'none',
		evaluate: (ctx) => divide(ctx, ctx.attributes.int('fmod') === 1 ? (a, b) => a % b : (a, b) => a - Math.floor(a / b) * b),
	},
};
