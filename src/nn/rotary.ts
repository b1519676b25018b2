/**
 * @file Rotary position embedding over several position axes (Su et al., 2104.09864), pairs of neighbouring channels, as Flux has it.
 * Legend: B batch, T tokens, A position axes, N heads, D head width, F = D / 2 pairs of channels.
 */
import { tensor } from '../core/tensor.ts';
import type { GraphBuilder } from '../graph/builder.ts';
import type { Value } from '../graph/types.ts';

/** Cosines and sines of every token's angles, [B, T, F]. */
export interface RotaryTables {
	readonly cos: Value;
	readonly sin: Value;
}

/**
 * Angles of ids [B, T, A] (float32 positions): axis a has `axes[a]` channels, whose pair i turns by position / theta^(2i / axes[a]).
 * The tables depend on inputs alone, so every stage computes its own rather than receive them.
 */
export function rotaryTables(g: GraphBuilder, ids_BTA: Value, axes: readonly number[], theta = 10000): RotaryTables {
	const pairs = axes.flatMap((width, axis) =>
		Array.from({ length: width / 2 }, (_, i) => ({ axis, frequency: theta ** ((-2 * i) / width) })),
	);
	const columns = g.constant(
		tensor(
			'int64',
			[pairs.length],
			pairs.map((p) => p.axis),
		),
	);
	const frequencies_F = g.constant(
		tensor(
			'float32',
			[pairs.length],
			pairs.map((p) => p.frequency),
		),
	);
	const angles_BTF = g.mul(g.gather(ids_BTA, columns, 2), frequencies_F);
	return { cos: g.cos(angles_BTF), sin: g.sin(angles_BTF) };
}

/*
 * Scores are sums over channels, so queries and keys may have their channels in any one order. Here it is all first members of the pairs, then all
 * second ones, so that the rotation works on whole blocks of memory. Pairs are taken apart after the heads: ONNX Runtime transposes a matrix, or
 * rows kept whole, six times faster than it does both in one step.
 */

/** Rotates q [B,T,C] into queries per head [B,N,T,D], times `scale`. */
export function rotateQueries(g: GraphBuilder, q_BTC: Value, heads: number, { cos, sin }: RotaryTables, scale: number): Value {
	const [batch, tokens, width] = q_BTC.shape as [number, number, number];
	const d = width / heads;
	const q_BNTD = g.transpose(g.reshape(q_BTC, [batch, tokens, heads, d]), [0, 2, 1, 3]);
	const members = g.split(g.transpose(g.reshape(q_BNTD, [-1, 2]), [1, 0]), [1, 1], 0);
	const [first, second] = members.map((x) => g.reshape(x, [batch, heads, tokens, d / 2])) as [Value, Value];
	// [B, T, F] is small beside the queries, so the scale goes there.
	const over = (x_BTF: Value) => g.mul(g.unsqueeze(x_BTF, [1]), scale);
	return rotate(g, first, second, over(cos), over(sin), 3);
}

/** Rotates k [B,S,C] into keys per head and transposed [B,N,D,S]. */
export function rotateKeys(g: GraphBuilder, k_BSC: Value, heads: number, { cos, sin }: RotaryTables): Value {
	const [batch, tokens, width] = k_BSC.shape as [number, number, number];
	const d = width / heads;
	const k_BNDS = g.transpose(g.reshape(k_BSC, [batch, tokens, heads, d]), [0, 2, 3, 1]);
	const members = g.split(g.reshape(k_BNDS, [batch, heads, d / 2, 2, tokens]), [1, 1], 3);
	const [first, second] = members.map((x) => g.reshape(x, [batch, heads, d / 2, tokens])) as [Value, Value];
	const over = (x_BTF: Value) => g.unsqueeze(g.transpose(x_BTF, [0, 2, 1]), [1]);
	return rotate(g, first, second, over(cos), over(sin), 2);
}

function rotate(g: GraphBuilder, first: Value, second: Value, cos: Value, sin: Value, axis: number): Value {
	return g.concat([g.sub(g.mul(first, cos), g.mul(second, sin)), g.add(g.mul(first, sin), g.mul(second, cos))], axis);
}
