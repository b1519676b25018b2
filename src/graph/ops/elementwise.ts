/** @file The common form of operators that map every element of one input. */
import type { DType } from '../../core/tensor.ts';
import type { EvalContext, InferContext, OpDef } from '../op.ts';
import { isFloat, numbersOf, sameAsInput, tensorOf } from './shared.ts';

/** A set of element types with the words errors use for it. */
export interface Accepted {
	readonly words: string;
	accepts(dtype: DType): boolean;
}

export const floats: Accepted = { words: 'a float type', accepts: isFloat };
export const numeric: Accepted = { words: 'a numeric type', accepts: (dtype) => dtype !== 'bool' };
export const signed: Accepted = { words: 'a signed numeric type', accepts: (dtype) => dtype !== 'bool' && dtype !== 'uint8' };
export const booleans: Accepted = { words: 'bool', accepts: (dtype) => dtype === 'bool' };
export const anything: Accepted = { words: 'any type', accepts: () => true };

/** Fails unless input `i` has an accepted element type. */
export function requireType(ctx: InferContext, i: number, { words, accepts }: Accepted): void {
	const { dtype } = ctx.input(i);
	if (!accepts(dtype)) ctx.fail(`element type ${dtype} of input ${i} is not supported`, words);
}

/** Reference evaluation of an operator that maps every element of input 0. */
export function evaluateElements(ctx: EvalContext, f: (x: number) => number) {
	return [tensorOf(ctx.outputs[0]!, numbersOf(ctx.input(0)).map(f))];
}

/** An operator of one input with the output's type and shape equal to the input's. `f` may depend on the attributes. */
export function elementwise(
	f: (x: number, attributes: EvalContext['attributes']) => number,
	vjp: OpDef['vjp'],
	{ accepted = floats, attributes = {} }: { accepted?: Accepted; attributes?: OpDef['attributes'] } = {},
): OpDef {
	return {
		inputs: [1, 1],
		outputs: [1, 1],
		attributes,
		cost: 'cheap',
		infer(ctx) {
			requireType(ctx, 0, accepted);
			return sameAsInput(ctx);
		},
		vjp,
		evaluate: (ctx) => evaluateElements(ctx, (x) => f(x, ctx.attributes)),
	};
}
