/** @file Feature maps as tokens, and self-attention between their positions. Legend: B batch, C channels, H and W rows and columns. */
import type { GraphBuilder } from '../graph/builder.ts';
import type { Value } from '../graph/types.ts';
import type { LayerContext } from './context.ts';
import { groupNorm } from './conv.ts';
import { projectedAttention } from './projected-attention.ts';

/** Feature map [B,C,H,W] to tokens [B,H*W,C], row by row. */
export function mapToTokens(g: GraphBuilder, x: Value): Value {
	const [batch, channels, height, width] = x.shape as [number, number, number, number];
	return g.transpose(g.reshape(x, [batch, channels, height * width]), [0, 2, 1]);
}

/** Tokens [B,height*width,C] to a feature map [B,C,height,width]. */
export function tokensToMap(g: GraphBuilder, tokens: Value, height: number, width: number): Value {
	const [batch, , channels] = tokens.shape as [number, number, number];
	return g.reshape(g.transpose(tokens, [0, 2, 1]), [batch, channels, height, width]);
}

export interface SpatialAttentionOptions {
	readonly heads: number;
	/** Groups of the norm before it, or null for none. */
	readonly groups: number | null;
	readonly epsilon: number;
	/** The result is divided by this. Default 1. */
	readonly outputScale?: number;
}

/** Self-attention between the positions of x [B,C,H,W] with a group norm before it and a residual around it. */
export function spatialAttention(ctx: LayerContext, x: Value, options: SpatialAttentionOptions): Value {
	const { g } = ctx;
	const { heads, groups, epsilon, outputScale = 1 } = options;
	const [, , height, width] = x.shape as [number, number, number, number];
	const normal = groups === null ? x : ctx.at('group_norm', (c) => groupNorm(c, x, groups, epsilon));
	const tokens = mapToTokens(g, normal);
	const mixed = projectedAttention(ctx, tokens, tokens, { heads, bias: true });
	const sum = g.add(tokensToMap(g, mixed, height, width), x);
	return outputScale === 1 ? sum : g.div(sum, outputScale);
}
