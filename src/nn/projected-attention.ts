/** @file Attention with its projections, parameters named as diffusers' `Attention`. Legend: B batch, T and S tokens, C width. */
import type { Value } from '../graph/types.ts';
import { attention } from './attention.ts';
import type { LayerContext } from './context.ts';
import { type LinearStart, linear } from './linear.ts';

export interface ProjectedAttentionOptions {
	readonly heads: number;
	/** Bias of to_q, to_k, to_v; to_out.0 always has one. */
	readonly bias: boolean;
	/** Broadcasts to [B, heads, T, S]; added to the scores. */
	readonly mask?: Value;
	/** Starts of to_q, to_k, to_v, and of to_out.0. */
	readonly init?: (fanIn: number, fanOut: number) => LinearStart;
	readonly outInit?: LinearStart;
}

/** Queries from x [B,T,C], keys and values from `context` [B,S,*] (x itself for self-attention), to [B,T,C]. */
export function projectedAttention(ctx: LayerContext, x_BTC: Value, context: Value, options: ProjectedAttentionOptions): Value {
	const { heads, bias, mask, init = () => ({}) } = options;
	const width = x_BTC.shape.at(-1)!;
	const project = (name: string, from: Value) => ctx.at(name, (c) => linear(c, from, width, { bias, ...init(from.shape.at(-1)!, width) }));
	const [q, k, v] = [project('to_q', x_BTC), project('to_k', context), project('to_v', context)];
	const mixed = attention(ctx.g, q, k, v, heads, mask);
	return ctx.at('to_out.0', (c) => linear(c, mixed, width, options.outInit ?? init(width, width)));
}
