/** @file The two-layer feed-forward of transformer blocks, with diffusers' parameter names. */
import type { Value } from '../graph/types.ts';
import type { LayerContext } from './context.ts';
import { type LinearStart, linear } from './linear.ts';

/** Activations of diffusers' `FeedForward`. */
export type FeedForwardActivation = 'gelu' | 'gelu-approximate';

/**
 * x [..., C] to [..., C] by way of `inner` channels (4 C as a rule): `net.0.proj`, the activation, `net.2`. `start` gives both layers' starts from
 * their numbers of inputs and outputs.
 */
export function feedForward(
	ctx: LayerContext,
	x: Value,
	inner: number,
	activation: FeedForwardActivation,
	start: (fanIn: number, fanOut: number) => LinearStart = () => ({}),
): Value {
	const width = x.shape.at(-1)!;
	const hidden = ctx.at('net.0.proj', (c) => linear(c, x, inner, start(width, inner)));
	const active = ctx.g.gelu(hidden, activation === 'gelu' ? 'none' : 'tanh');
	return ctx.at('net.2', (c) => linear(c, active, width, start(inner, width)));
}
