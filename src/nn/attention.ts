/** @file Scaled dot-product attention over heads. Legend: B batch, T query tokens, S key tokens, C width, N heads, D head width. */
import type { GraphBuilder } from '../graph/builder.ts';
import type { Value } from '../graph/types.ts';

/** softmax(q k^T / sqrt(D) + mask) v for q [B,T,C], k and v [B,S,C]; mask broadcasts to [B,N,T,S]. Returns [B,T,C]. */
export function attention(g: GraphBuilder, q_BTC: Value, k_BSC: Value, v_BSC: Value, heads: number, mask?: Value, scale?: number): Value {
	const d = q_BTC.shape[2]! / heads;
	const factor = scale ?? 1 / Math.sqrt(d);
	// The scale goes on q, the smaller operand: one pass over [B,T,C] where the scores would need one over [B,N,T,S].
	const scaled_BTC = factor === 1 ? q_BTC : g.mul(q_BTC, factor);
	return attentionOverHeads(g, splitHeads(g, scaled_BTC, heads, [0, 2, 1, 3]), splitHeads(g, k_BSC, heads, [0, 2, 3, 1]), v_BSC, mask);
}

/** The same from queries already scaled and per head [B,N,T,D], keys per head and transposed [B,N,D,S], and values v [B,S,C]. */
export function attentionOverHeads(g: GraphBuilder, q_BNTD: Value, k_BNDS: Value, v_BSC: Value, mask?: Value): Value {
	const [batch, heads, tokens] = q_BNTD.shape as [number, number, number];
	const scores_BNTS = g.matMul(q_BNTD, k_BNDS);
	const weights_BNTS = g.softmax(mask ? g.add(scores_BNTS, mask) : scores_BNTS, -1);
	const out_BNTE = g.matMul(weights_BNTS, splitHeads(g, v_BSC, heads, [0, 2, 1, 3]));
	return g.reshape(g.transpose(out_BNTE, [0, 2, 1, 3]), [batch, tokens, v_BSC.shape[2]!]);
}

/** x [B,T,C] seen as [B,T,N,D], its axes in the order `perm`. */
function splitHeads(g: GraphBuilder, x: Value, heads: number, perm: readonly number[]): Value {
	const [batch, tokens, width] = x.shape as [number, number, number];
	return g.transpose(g.reshape(x, [batch, tokens, heads, width / heads]), perm);
}
