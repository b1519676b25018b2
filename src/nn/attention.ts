/** @file Scaled dot-product attention over heads. Legend: B batch, T query tokens, S key tokens, C width, N heads, D head width. */
import type { GraphBuilder } from '../graph/builder.ts';
import type { Value } from '../graph/types.ts';

/** softmax(q k^T / sqrt(D) + mask) v for q [B,T,C], k and v [B,S,C]; mask broadcasts to [B,N,T,S]. Returns [B,T,C]. */
export function attention(g: GraphBuilder, q_BTC: Value, k_BSC: Value, v_BSC: Value, heads: number, mask?: Value, scale?: number): Value {
	const [batch, tokens, width] = q_BTC.shape as [number, number, number];
	const d = width / heads;
	const split = (x: Value, perm: readonly number[]) => g.transpose(g.reshape(x, [batch, x.shape[1]!, heads, x.shape[2]! / heads]), perm);
	// The scale goes on q, the smaller operand: one pass over [B,T,C] where the scores would need one over [B,N,T,S].
	const q_BNTD = split(g.mul(q_BTC, scale ?? 1 / Math.sqrt(d)), [0, 2, 1, 3]);
	const k_BNDS = split(k_BSC, [0, 2, 3, 1]);
	const v_BNSE = split(v_BSC, [0, 2, 1, 3]);
	const scores_BNTS = g.matMul(q_BNTD, k_BNDS);
	const weights_BNTS = g.softmax(mask ? g.add(scores_BNTS, mask) : scores_BNTS, -1);
	const out_BNTE = g.matMul(weights_BNTS, v_BNSE);
	return g.reshape(g.transpose(out_BNTE, [0, 2, 1, 3]), [batch, tokens, v_BSC.shape[2]!]);
}
