/** @file Comparisons, logic and selection. */

import type { OpDef } from '../op.ts';
import { broadcastShapes } from '../shapes.ts';
import type { Value } from '../types.ts';
import { type Accepted, anything, booleans, elementwise, numeric, requireType } from './elementwise.ts';
import type { CompareOp } from './kinds.ts';
import { broadcastInfer, evaluateBroadcast, reduceTo } from './shared.ts';

/** An operator of two broadcasting operands that gives bool. */
const predicate = (f: (a: number, b: number) => boolean, accepted: Accepted): OpDef => ({
	inputs: [2, 2],
	outputs: [1, 1],
	attributes: {},
	cost: 'cheap',
	infer(ctx) {
		requireType(ctx, 0, accepted);
		return [{ dtype: 'bool', shape: broadcastInfer(ctx).shape }];
	},
	vjp: 'none',
	evaluate: (ctx) => evaluateBroadcast(ctx, (...[a, b]) => Number(f(a!, b!))),
});

const where: OpDef = {
	inputs: [3, 3],
	outputs: [1, 1],
	attributes: {},
	cost: 'cheap',
	infer(ctx) {
		const condition = ctx.input(0);
		if (condition.dtype !== 'bool') ctx.fail(`the condition is ${condition.dtype}`, 'bool');
		const { dtype, shape } = broadcastInfer(ctx, 1);
		return [{ dtype, shape: broadcastShapes(condition.shape, shape) ?? ctx.fail('the condition does not broadcast with the values') }];
	},
	// A product with the mask: on a CPU three times as fast as another Where.
	vjp(ctx) {
		const { g, needs } = ctx;
		const dy = ctx.grad();
		const taken = g.mul(dy, g.cast(ctx.input(0), dy.dtype));
		const back = (i: number, grad: () => Value) => (needs[i] ? reduceTo(g, grad(), ctx.input(i).shape) : undefined);
		return [undefined, back(1, () => taken), back(2, () => g.sub(dy, taken))];
	},
	evaluate: (ctx) => evaluateBroadcast(ctx, (...[c, a, b]) => (c ? a! : b!)),
};

export const compareOps: Record<CompareOp, OpDef> = {
	Equal: predicate((a, b) => a === b, anything),
	Less: predicate((a, b) => a < b, numeric),
	Greater: predicate((a, b) => a > b, numeric),
	LessOrEqual: predicate((a, b) => a <= b, numeric),
	GreaterOrEqual: predicate((a, b) => a >= b, numeric),
	And: predicate((a, b) => a !== 0 && b !== 0, booleans),
	Or: predicate((a, b) => a !== 0 || b !== 0, booleans),
	Not: elementwise((x) => Number(x === 0), 'none', { accepted: booleans }),
	Where: where,
};
