/** @file Linear layers and embedding tables, with parameter names and layouts as PyTorch saves them. */
import type { Value } from '../graph/types.ts';
import type { Init, LayerContext } from './context.ts';

export interface LinearOptions {
	readonly bias?: boolean;
	readonly weightInit?: Init;
	readonly biasInit?: Init;
}

/** PyTorch's default start of a linear or convolution weight: uniform with bound 1 / sqrt(fan in). */
export function defaultInit(fanIn: number): Init {
	return { kind: 'uniform', bound: 1 / Math.sqrt(fanIn) };
}

/** Start of a linear layer: weight and bias. */
export type LinearStart = Pick<LinearOptions, 'weightInit' | 'biasInit'>;

/** Glorot weights and no bias, the usual start of diffusion transformers. */
export function xavierStart(fanIn: number, fanOut: number): LinearStart {
	return { weightInit: { kind: 'xavier_uniform', fanIn, fanOut }, biasInit: { kind: 'zeros' } };
}

/** Zero weights and bias: what ends in it does nothing at first. */
export const zeroStart: LinearStart = { weightInit: { kind: 'zeros' }, biasInit: { kind: 'zeros' } };

/** x [..., in] to [..., out] with `weight` [out, in] and `bias` [out]. */
export function linear(ctx: LayerContext, x: Value, out: number, { bias = true, weightInit, biasInit }: LinearOptions = {}): Value {
	const { g } = ctx;
	const inner = x.shape.at(-1)!;
	const weight_OI = ctx.param('weight', [out, inner], weightInit ?? defaultInit(inner));
	const bias_O = bias ? ctx.param('bias', [out], biasInit ?? defaultInit(inner)) : undefined;
	const x_NI = x.shape.length === 2 ? x : g.reshape(x, [-1, inner]);
	const own_NO = g.gemm(x_NI, weight_OI, bias_O, { transB: true });
	const y_NO = ctx.adapter?.linear(x_NI, own_NO, []) ?? own_NO;
	return x.shape.length === 2 ? y_NO : g.reshape(y_NO, [...x.shape.slice(0, -1), out]);
}

/** Rows of `weight` [count, width] chosen by int64 `indices` [...]: [..., width]. */
export function embedding(ctx: LayerContext, indices: Value, count: number, width: number, init: Init = { kind: 'normal', std: 1 }): Value {
	return ctx.g.gather(ctx.param('weight', [count, width], init), indices, 0);
}
