/** @file Adaptive norms: shifts, scales and gates computed from a conditioning vector. Legend: B batch, C width. */
import type { GraphBuilder } from '../graph/builder.ts';
import type { Value } from '../graph/types.ts';
import type { LayerContext } from './context.ts';
import { silu } from './embeddings.ts';
import { linear, zeroStart } from './linear.ts';

/** Cuts [B, n * C] into n pieces [B, 1, C] that broadcast over tokens. */
export function chunk(g: GraphBuilder, x: Value, n: number): readonly Value[] {
	const [batch, width] = x.shape as [number, number];
	return g.split(g.reshape(x, [batch, 1, width]), new Array<number>(n).fill(width / n), 2);
}

/**
 * `linear(silu(emb))` cut into `n` pieces [B, 1, width], for emb [B, C]. Starts at zero, so that gates close and scales do nothing at first
 * (adaLN-Zero; Peebles & Xie, 2212.09748).
 */
export function modulation(ctx: LayerContext, emb_BC: Value, n: number, width: number): readonly Value[] {
	return chunk(
		ctx.g,
		ctx.at('linear', (c) => linear(c, silu(ctx.g, emb_BC), n * width, zeroStart)),
		n,
	);
}
