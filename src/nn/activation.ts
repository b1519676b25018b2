/** @file Activation functions by the names that `act_fn` takes. */
import type { GraphBuilder } from '../graph/builder.ts';
import type { Value } from '../graph/types.ts';
import { silu } from './embeddings.ts';

/** Elementwise functions by their diffusers names. */
export const activations = {
	silu,
	swish: silu,
	gelu: (g: GraphBuilder, x: Value): Value => g.gelu(x),
	relu: (g: GraphBuilder, x: Value): Value => g.relu(x),
	mish: (g: GraphBuilder, x: Value): Value => g.mish(x),
} as const satisfies Record<string, (g: GraphBuilder, x: Value) => Value>;

export type ActivationName = keyof typeof activations;

/** Names for config tables. */
export const activationNames = Object.keys(activations) as readonly ActivationName[];
