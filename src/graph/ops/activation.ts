/** @file Activation functions. */
import type { GraphBuilder } from '../builder.ts';
import type { OpDef, VjpContext } from '../op.ts';
import type { Value } from '../types.ts';
import { elementwise } from './elementwise.ts';
import { normalCdf } from './erf.ts';
import type { ActivationOp } from './kinds.ts';

export const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));
/** log(1 + e^x), without overflow. */
const softplus = (x: number): number => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
const hardSigmoid = (x: number, alpha: number, beta: number): number => Math.min(Math.max(alpha * x + beta, 0), 1);

/** Gelu's tanh form is x sigmoid(x (linear + cubic x^2)), since (1 + tanh(u)) / 2 = sigmoid(2u). */
const linear = 2 * Math.sqrt(2 / Math.PI);
const cubic = 0.044715 * linear;

/** x Phi(x), or its tanh approximation. */
export function gelu(x: number, approximate: 'none' | 'tanh'): number {
	return x * (approximate === 'tanh' ? sigmoid(x * (linear + cubic * x * x)) : normalCdf(x));
}

/** Phi(x) + x phi(x), as few elementwise nodes as we know. */
function geluSlope(g: GraphBuilder, x: Value): Value {
	const u = g.mul(x, Math.SQRT1_2);
	// 0.5 e + 0.5 in one node: HardSigmoid's clamp to [0, 1] never acts, as |erf| <= 1.
	const cdf = g.hardSigmoid(g.erf(u), 0.5, 0.5);
	const density = g.exp(g.sub(-0.5 * Math.log(2 * Math.PI), g.mul(u, u)));
	return g.add(cdf, g.mul(x, density));
}

/** With s = sigmoid(v) and y = x s: s + y (1 - s) v'. */
function geluTanhSlope(g: GraphBuilder, x: Value, y: Value): Value {
	const square = g.mul(g.mul(x, x), cubic);
	const s = g.sigmoid(g.mul(x, g.add(square, linear)));
	const dv = g.add(g.mul(square, 3), linear);
	return g.add(s, g.mul(g.mul(y, g.sub(1, s)), dv));
}

const approximations = ['none', 'tanh'] as const;

const geluElements = elementwise(
	(x, attributes) => gelu(x, attributes.string('approximate') as 'none' | 'tanh'),
	({ g, input, outputs, grad, attributes }) => {
		const tanh = attributes.string('approximate') === 'tanh';
		return [g.mul(grad(), tanh ? geluTanhSlope(g, input(0), outputs[0]!) : geluSlope(g, input(0)))];
	},
	{ attributes: { approximate: { kind: 'string', default: 'none' } } },
);

const geluOp: OpDef = {
	...geluElements,
	infer(ctx) {
		const approximate = ctx.attributes.string('approximate');
		if (!approximations.some((a) => a === approximate)) ctx.fail(`approximate is ${approximate}`, approximations.join(' or '));
		return geluElements.infer(ctx);
	},
};

/** A bool value as 0 and 1 of the type of `like`. */
const mask = (g: GraphBuilder, condition: Value, like: Value): Value => g.cast(condition, like.dtype);
/** 1 where y is strictly between 0 and 1, else 0. */
const inside = (g: GraphBuilder, y: Value): Value => mask(g, g.and(g.greater(y, 0), g.less(y, 1)), y);

/**
 * x tanh(softplus(x)). With s = sigmoid(x) and r = s (2 - s), t = tanh(softplus(x)) is r / (2 - r), which needs no Softplus (slow on CPUs);
 * with y = x t the slope is t + (x - y t) s.
 */
function mishGradient({ g, input, outputs: [y], grad }: VjpContext): readonly Value[] {
	const x = input(0);
	const s = g.sigmoid(x);
	const r = g.mul(s, g.sub(2, s));
	const t = g.div(r, g.sub(2, r));
	return [g.mul(grad(), g.add(t, g.mul(g.sub(x, g.mul(y!, t)), s)))];
}

/** Slope 1 above zero, alpha below. */
function leakySlope({ g, input, attributes }: VjpContext): Value {
	const alpha = attributes.float('alpha');
	return g.add(g.mul(mask(g, g.greater(input(0), 0), input(0)), 1 - alpha), alpha);
}

/** Slope 1 above zero, alpha e^x = y + alpha below. */
function eluSlope({ g, outputs, attributes }: VjpContext): Value {
	const y = outputs[0]!;
	const alpha = attributes.float('alpha');
	const below = g.add(g.min(y, 0), alpha);
	return alpha === 1 ? below : g.add(below, g.mul(mask(g, g.greater(y, 0), y), 1 - alpha));
}

export const activationOps: Record<ActivationOp, OpDef> = {
	Tanh: elementwise(Math.tanh, ({ g, grad, outputs: [y] }) => [g.mul(grad(), g.sub(1, g.mul(y!, y!)))]),
	Sigmoid: elementwise(sigmoid, ({ g, grad, outputs: [y] }) => [g.mul(g.mul(grad(), y!), g.sub(1, y!))]),
	Softplus: elementwise(softplus, ({ g, grad, input }) => [g.mul(grad(), g.sigmoid(input(0)))]),
	Relu: elementwise(
		(x) => Math.max(x, 0),
		({ g, grad, outputs: [y] }) => [g.mul(grad(), mask(g, g.greater(y!, 0), y!))],
	),
	LeakyRelu: elementwise(
		(x, a) => (x < 0 ? a.float('alpha') * x : x),
		(ctx) => [ctx.g.mul(ctx.grad(), leakySlope(ctx))],
		{ attributes: { alpha: { kind: 'float', default: 0.01 } } },
	),
	Elu: elementwise(
		(x, a) => (x < 0 ? a.float('alpha') * Math.expm1(x) : x),
		(ctx) => [ctx.g.mul(ctx.grad(), eluSlope(ctx))],
		{ attributes: { alpha: { kind: 'float', default: 1 } } },
	),
	Gelu: geluOp,
	Mish: elementwise((x) => x * Math.tanh(softplus(x)), mishGradient),
	// x h with h = HardSigmoid(x): h has slope 1/6 strictly inside, where x/6 = h - 1/2.
	HardSwish: elementwise(
		(x) => x * hardSigmoid(x, 1 / 6, 0.5),
		({ g, grad, input }) => {
			const h = g.hardSigmoid(input(0), 1 / 6, 0.5);
			return [g.mul(grad(), g.add(h, g.mul(g.sub(h, 0.5), inside(g, h))))];
		},
	),
	HardSigmoid: elementwise(
		(x, a) => hardSigmoid(x, a.float('alpha'), a.float('beta')),
		({ g, grad, outputs: [y], attributes }) => [g.mul(grad(), g.mul(inside(g, y!), attributes.float('alpha')))],
		{ attributes: { alpha: { kind: 'float', default: 0.2 }, beta: { kind: 'float', default: 0.5 } } },
	),
};
