/**
 * @file Attention over image and text tokens together, each with projections of its own (MMDiT; Esser et al., 2403.03206).
 * Legend: B batch, T image tokens, S text tokens, C width, N heads, D head width.
 */
import type { GraphBuilder } from '../graph/builder.ts';
import type { Value } from '../graph/types.ts';
import { attention, attentionOverHeads } from './attention.ts';
import type { LayerContext } from './context.ts';
import { linear } from './linear.ts';
import { rmsNorm } from './norm.ts';
import { type RotaryTables, rotateKeys, rotateQueries } from './rotary.ts';

export interface JointAttentionOptions {
	readonly heads: number;
	/** Root-mean-square norm of queries and keys, per head, before any rotation. */
	readonly qkNorm: boolean;
	/** Tables over text and image tokens in the order they are joined; none: no rotation. */
	readonly rotary?: RotaryTables;
	/** Which tokens come first where they are joined. */
	readonly first: 'image' | 'text';
	/** False for a last block, whose text ends here: no `to_add_out`. */
	readonly textOut: boolean;
}

const epsilon = 1e-6;

/** x [B,T,C] and text [B,S,C] to what each adds to its residual; text undefined when `textOut` is false. */
export function jointAttention(
	ctx: LayerContext,
	x_BTC: Value,
	text_BSC: Value,
	options: JointAttentionOptions,
): { readonly x: Value; readonly text: Value | undefined } {
	const { g } = ctx;
	const { heads, qkNorm, rotary, first, textOut } = options;
	const width = x_BTC.shape.at(-1)!;
	const [tokens, textTokens] = [x_BTC.shape[1]!, text_BSC.shape[1]!];
	const join = (image: Value, text: Value) => g.concat(first === 'image' ? [image, text] : [text, image], 1);
	const normed = (name: string, x: Value) => (qkNorm ? ctx.at(name, (c) => headNorm(c, x, heads)) : x);
	const own = (name: string) => ctx.at(name, (c) => linear(c, x_BTC, width));
	const added = (name: string) => ctx.at(name, (c) => linear(c, text_BSC, width));
	const q = join(normed('norm_q', own('to_q')), normed('norm_added_q', added('add_q_proj')));
	const k = join(normed('norm_k', own('to_k')), normed('norm_added_k', added('add_k_proj')));
	const v = join(own('to_v'), added('add_v_proj'));
	const mixed = rotatedAttention(g, q, k, v, heads, rotary);
	const sizes = first === 'image' ? [tokens, textTokens] : [textTokens, tokens];
	const parts = g.split(mixed, sizes, 1) as [Value, Value];
	const [mixedX, mixedText] = first === 'image' ? parts : [parts[1], parts[0]];
	return {
		x: ctx.at('to_out.0', (c) => linear(c, mixedX, width)),
		text: textOut ? ctx.at('to_add_out', (c) => linear(c, mixedText, width)) : undefined,
	};
}

/** Self-attention of x [B,T,C] with the same options, with or without `to_out.0`. */
export function normedSelfAttention(
	ctx: LayerContext,
	x_BTC: Value,
	{ heads, qkNorm, rotary, out }: Pick<JointAttentionOptions, 'heads' | 'qkNorm' | 'rotary'> & { readonly out: boolean },
): Value {
	const width = x_BTC.shape.at(-1)!;
	const own = (name: string) => ctx.at(name, (c) => linear(c, x_BTC, width));
	const normed = (name: string, x: Value) => (qkNorm ? ctx.at(name, (c) => headNorm(c, x, heads)) : x);
	const mixed = rotatedAttention(ctx.g, normed('norm_q', own('to_q')), normed('norm_k', own('to_k')), own('to_v'), heads, rotary);
	return out ? ctx.at('to_out.0', (c) => linear(c, mixed, width)) : mixed;
}

function rotatedAttention(g: GraphBuilder, q: Value, k: Value, v: Value, heads: number, rotary: RotaryTables | undefined): Value {
	if (!rotary) return attention(g, q, k, v, heads);
	const scale = 1 / Math.sqrt(q.shape[2]! / heads);
	return attentionOverHeads(g, rotateQueries(g, q, heads, rotary, scale), rotateKeys(g, k, heads, rotary), v);
}

/** Root-mean-square norm of each head of x [B,T,C], one `weight` [D] for all heads. */
function headNorm(ctx: LayerContext, x: Value, heads: number): Value {
	const [batch, tokens, width] = x.shape as [number, number, number];
	return ctx.g.reshape(rmsNorm(ctx, ctx.g.reshape(x, [batch, tokens, heads, width / heads]), epsilon), x.shape);
}
