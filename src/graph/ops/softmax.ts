/** @file Softmax and its logarithm along one axis. */
import { sizeOf } from '../../core/tensor.ts';
import type { OpDef, VjpContext } from '../op.ts';
import { normalizeAxis } from '../shapes.ts';
import type { Value } from '../types.ts';
import { floats, requireType } from './elementwise.ts';
import type { SoftmaxOp } from './kinds.ts';
import { forEachLine } from './lines.ts';
import { numbersOf, sameAsInput, tensorOf } from './shared.ts';

/** `finish` turns x - max and log(sum(exp(x - max))) into the output. */
const define = (finish: (shifted: number, logSum: number) => number, vjp: (ctx: VjpContext, axis: number) => Value): OpDef => ({
	inputs: [1, 1],
	outputs: [1, 1],
	attributes: { axis: { kind: 'int', default: -1 } },
	cost: 'cheap',
	infer(ctx) {
		requireType(ctx, 0, floats);
		normalizeAxis(ctx.attributes.int('axis'), ctx.input(0).shape.length, ctx.fail);
		return sameAsInput(ctx);
	},
	vjp: (ctx) => [vjp(ctx, ctx.attributes.int('axis'))],
	evaluate(ctx) {
		const { shape } = ctx.input(0);
		const x = numbersOf(ctx.input(0));
		const out = new Float64Array(sizeOf(shape));
		const axis = ctx.attributes.int('axis');
		forEachLine(shape, axis < 0 ? axis + shape.length : axis, ({ start, stride, length }) => {
			let max = Number.NEGATIVE_INFINITY;
			let sum = 0;
			for (let k = 0; k < length; k++) max = Math.max(max, x[start + k * stride]!);
			for (let k = 0; k < length; k++) sum += Math.exp(x[start + k * stride]! - max);
			for (let k = 0; k < length; k++) out[start + k * stride] = finish(x[start + k * stride]! - max, Math.log(sum));
		});
		return [tensorOf(ctx.outputs[0]!, out)];
	},
});

export const softmaxOps: Record<SoftmaxOp, OpDef> = {
	Softmax: define(
		(shifted, logSum) => Math.exp(shifted - logSum),
		({ g, grad, outputs: [y] }, axis) => g.mul(y!, g.sub(grad(), g.reduceSum(g.mul(grad(), y!), [axis]))),
	),
	LogSoftmax: define(
		(shifted, logSum) => shifted - logSum,
		({ g, grad, outputs: [y] }, axis) => g.sub(grad(), g.mul(g.exp(y!), g.reduceSum(grad(), [axis]))),
	),
};
