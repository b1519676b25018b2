/** @file The transformer of a U-Net: feature map to tokens, blocks of attention to itself and to a context, and back. Legend: B batch, T, S tokens, C width. */
import type { Value } from '../graph/types.ts';
import type { LayerContext } from './context.ts';
import { groupNorm } from './conv.ts';
import { defaultInit, linear } from './linear.ts';
import { layerNorm } from './norm.ts';
import { projectedAttention } from './projected-attention.ts';
import { mapToTokens, tokensToMap } from './spatial-attention.ts';

export interface TransformerOptions {
	readonly heads: number;
	/** True: the first attention of every block, too, looks at the context and not at its own tokens. */
	readonly onlyCrossAttention: boolean;
}

/** `BasicTransformerBlock`: norm1, attn1, norm2, attn2 (to the context), norm3, GEGLU feed-forward, each with its residual; x [B,T,C], context [B,S,any]. */
export function basicTransformerBlock(ctx: LayerContext, x_BTC: Value, context_BSK: Value, options: TransformerOptions): Value {
	const { g } = ctx;
	const { heads, onlyCrossAttention } = options;
	const plain = { heads, bias: false };
	const norm = (name: string, v: Value) => ctx.at(name, (c) => layerNorm(c, v, 1e-5));
	const n1 = norm('norm1', x_BTC);
	const a = g.add(
		ctx.at('attn1', (c) => projectedAttention(c, n1, onlyCrossAttention ? context_BSK : n1, plain)),
		x_BTC,
	);
	const n2 = norm('norm2', a);
	const b = g.add(
		ctx.at('attn2', (c) => projectedAttention(c, n2, context_BSK, plain)),
		a,
	);
	const n3 = norm('norm3', b);
	return g.add(
		ctx.at('ff', (c) => gegluFeedForward(c, n3)),
		b,
	);
}

/** `net.0.proj` to twice 4C, hidden * GELU(gate) (Shazeer, 2002.05202), `net.2` back to C. */
export function gegluFeedForward(ctx: LayerContext, x_BTC: Value): Value {
	const { g } = ctx;
	const [batch, tokens, width] = x_BTC.shape as [number, number, number];
	const inner = 4 * width;
	const [hidden, gate] = ctx.at('net.0.proj', (c) => {
		// Halves are cut from what is smaller: the weight, or the product.
		if (c.adapter || batch * tokens < width) return g.split(linear(c, x_BTC, 2 * inner), [inner, inner], 2);
		const init = defaultInit(width);
		const weights = g.split(c.param('weight', [2 * inner, width], init), [inner, inner], 0);
		const biases = g.split(c.param('bias', [2 * inner], init), [inner, inner], 0);
		const x_NC = g.reshape(x_BTC, [batch * tokens, width]);
		return weights.map((weight, i) => g.reshape(g.gemm(x_NC, weight, biases[i]!, { transB: true }), [batch, tokens, inner]));
	}) as [Value, Value];
	return ctx.at('net.2', (c) => linear(c, g.mul(hidden, g.gelu(gate)), width));
}

/** `norm` and `proj_in` of a `Transformer2DModel`: x [B,C,H,W] to tokens [B,H*W,C]. The weight of `proj_in` is a matrix, or a 1x1 convolution's. */
export function enterTransformer(ctx: LayerContext, x: Value, groups: number, linearProjection: boolean): Value {
	const normal = ctx.at('norm', (c) => groupNorm(c, x, groups, 1e-6));
	return projectTokens(ctx, 'proj_in', mapToTokens(ctx.g, normal), linearProjection);
}

/** `proj_out` of a `Transformer2DModel` and its residual: tokens [B,H*W,C] and the input x [B,C,H,W] to [B,C,H,W]. */
export function leaveTransformer(ctx: LayerContext, tokens: Value, x: Value, linearProjection: boolean): Value {
	const [, , height, width] = x.shape as [number, number, number, number];
	const out = projectTokens(ctx, 'proj_out', tokens, linearProjection);
	return ctx.g.add(tokensToMap(ctx.g, out, height, width), x);
}

function projectTokens(ctx: LayerContext, name: string, x_BTC: Value, linearProjection: boolean): Value {
	return ctx.at(name, (c) => {
		const [batch, tokens, width] = x_BTC.shape as [number, number, number];
		if (linearProjection) return linear(c, x_BTC, width);
		const { g } = c;
		const init = defaultInit(width);
		const weight = g.reshape(c.param('weight', [width, width, 1, 1], init), [width, width]);
		const x_NC = g.reshape(x_BTC, [batch * tokens, width]);
		const y = g.gemm(x_NC, weight, c.param('bias', [width], init), { transB: true });
		return g.reshape(c.adapter?.linear(x_NC, y, [1, 1]) ?? y, [batch, tokens, width]);
	});
}
