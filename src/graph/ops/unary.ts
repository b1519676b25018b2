/** @file Elementwise functions of one operand, conversion and clamping. */
import { type DType, type TypeShape, writeElement, zeros } from '../../core/tensor.ts';
import { dtypeOfOnnx, onnxElementType } from '../builder/elementwise.ts';
import type { AttributeReader, OpDef } from '../op.ts';
import { elementwise, evaluateElements, numeric, requireType, signed } from './elementwise.ts';
import { erf } from './erf.ts';
import type { UnaryOp } from './kinds.ts';
import { isFloat, numbersOf, sameAsInput } from './shared.ts';

/** To the nearest whole number, ties to even. */
export function roundHalfEven(x: number): number {
	const down = Math.floor(x);
	const rest = x - down;
	return rest > 0.5 || (rest === 0.5 && down % 2 !== 0) ? down + 1 : down;
}

const identity: OpDef = {
	inputs: [1, 1],
	outputs: [1, 1],
	attributes: {},
	cost: 'view',
	infer: sameAsInput,
	vjp: (ctx) => [ctx.grad()],
	evaluate: (ctx) => [ctx.input(0)],
};

const castTarget = (attributes: AttributeReader): DType | undefined => dtypeOfOnnx(attributes.int('to'));

const cast: OpDef = {
	inputs: [1, 1],
	outputs: [1, 1],
	// `saturate` is about 8-bit floats, which we do not hold.
	attributes: { to: { kind: 'int' }, saturate: { kind: 'int', default: 1 } },
	cost: 'cheap',
	infer(ctx) {
		const known = Object.entries(onnxElementType).map(([name, number]) => `${number} (${name})`);
		const dtype = castTarget(ctx.attributes) ?? ctx.fail(`element type ${ctx.attributes.int('to')} is not supported`, known.join(', '));
		return [{ dtype, shape: ctx.input(0).shape }];
	},
	vjp(ctx) {
		const { dtype } = ctx.input(0);
		return [isFloat(dtype) ? ctx.g.cast(ctx.grad(), dtype) : undefined];
	},
	evaluate(ctx) {
		const x = ctx.input(0);
		const type = ctx.outputs[0]!;
		return [x.dtype === type.dtype ? x : convert(numbersOf(x), type)];
	},
};

/** Floats become whole numbers by dropping the fraction; what has no whole number (NaN, infinity) becomes 0. */
function convert(values: Float64Array, { dtype, shape }: TypeShape) {
	const out = zeros(dtype, shape);
	const whole = !isFloat(dtype) && dtype !== 'bool';
	values.forEach((v, i) => {
		writeElement(dtype, out.data, i, whole && !Number.isFinite(v) ? 0 : v);
	});
	return out;
}

const clip: OpDef = {
	inputs: [1, 3],
	outputs: [1, 1],
	attributes: {},
	cost: 'cheap',
	infer(ctx) {
		requireType(ctx, 0, numeric);
		const { dtype } = ctx.input(0);
		ctx.inputs.slice(1).forEach((bound, i) => {
			if (!bound) return;
			if (bound.shape.length > 0) ctx.fail(`input ${i + 1} (${i === 0 ? 'min' : 'max'}) is not a scalar`, 'shape []');
			if (bound.dtype !== dtype) ctx.fail('element types differ', `${dtype} for every input`);
		});
		return sameAsInput(ctx);
	},
	vjp(ctx) {
		const { g, needs, outputs } = ctx;
		const [x, low, high] = ctx.inputs;
		const masked = (mask: Parameters<typeof g.cast>[0]) => g.mul(ctx.grad(), g.cast(mask, ctx.grad().dtype));
		const everything = ctx.grad().shape.map((_, i) => i);
		const total = (mask: Parameters<typeof g.cast>[0]) => g.reduceSum(masked(mask), everything, false);
		return [
			needs[0] ? masked(g.equal(outputs[0]!, x!)) : undefined,
			...(low ? [needs[1] ? total(g.less(x!, low)) : undefined] : [undefined]),
			...(high ? [needs[2] ? total(g.greater(x!, high)) : undefined] : []),
		];
	},
	evaluate(ctx) {
		const [low = Number.NEGATIVE_INFINITY, high = Number.POSITIVE_INFINITY] = [1, 2].map(
			(i) => ctx.inputs[i] && numbersOf(ctx.inputs[i])[0],
		);
		return evaluateElements(ctx, (x) => Math.min(Math.max(x, low), high));
	},
};

export const unaryOps: Record<UnaryOp, OpDef> = {
	Neg: elementwise(
		(x) => -x,
		(ctx) => [ctx.g.neg(ctx.grad())],
		{ accepted: signed },
	),
	Abs: elementwise(Math.abs, (ctx) => [ctx.g.mul(ctx.grad(), ctx.g.sign(ctx.input(0)))], { accepted: numeric }),
	Sign: elementwise(Math.sign, 'none', { accepted: numeric }),
	Exp: elementwise(Math.exp, (ctx) => [ctx.g.mul(ctx.grad(), ctx.outputs[0]!)]),
	Log: elementwise(Math.log, (ctx) => [ctx.g.div(ctx.grad(), ctx.input(0))]),
	Sqrt: elementwise(Math.sqrt, ({ g, grad, outputs }) => [g.mul(g.div(grad(), outputs[0]!), 0.5)]),
	Reciprocal: elementwise(
		(x) => 1 / x,
		({ g, grad, outputs: [y] }) => [g.neg(g.mul(grad(), g.mul(y!, y!)))],
	),
	// exp(log(2 / sqrt(pi)) - x^2): the factor joins the exponent, which saves a product over the whole tensor.
	Erf: elementwise(erf, ({ g, grad, input }) => [g.mul(grad(), g.exp(g.sub(Math.log(2 / Math.sqrt(Math.PI)), g.mul(input(0), input(0)))))]),
	Sin: elementwise(Math.sin, ({ g, grad, input }) => [g.mul(grad(), g.cos(input(0)))]),
	Cos: elementwise(Math.cos, ({ g, grad, input }) => [g.neg(g.mul(grad(), g.sin(input(0))))]),
	Floor: elementwise(Math.floor, 'none'),
	Ceil: elementwise(Math.ceil, 'none'),
	Round: elementwise(roundHalfEven, 'none'),
	Identity: identity,
	Cast: cast,
	Clip: clip,
};
