/** @file Constants that many layers of a graph use. */
import type { Tensor } from '../core/tensor.ts';
import type { GraphBuilder } from '../graph/builder.ts';
import type { Value } from '../graph/types.ts';

const made = new WeakMap<GraphBuilder, Map<string, Value>>();

/**
 * The constant of `g` under `key`, made by the first layer that asks. Large constants are not compared when equal nodes are merged, so what
 * blocks compute alike from one, as a position bias, is computed once only if the constant is one value.
 */
export function sharedConstant(g: GraphBuilder, key: string, make: () => Tensor): Value {
	let known = made.get(g);
	if (!known) {
		known = new Map();
		made.set(g, known);
	}
	const seen = known.get(key);
	if (seen) return seen;
	const value = g.constant(make());
	known.set(key, value);
	return value;
}
