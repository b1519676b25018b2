/** @file `ResnetBlock2D`: two normalised convolutions around a residual, conditioned on a time embedding. Legend: B batch, C channels. */
import type { Value } from '../graph/types.ts';
import { type ActivationName, activations } from './activation.ts';
import type { LayerContext } from './context.ts';
import { conv2d, groupNorm } from './conv.ts';
import { linear } from './linear.ts';

export interface ResnetOptions {
	/** Groups and epsilon of both norms. */
	readonly groups: number;
	readonly epsilon: number;
	readonly activation: ActivationName;
	/** True: the embedding scales and shifts the second norm (`scale_shift`); false: it is added before it. */
	readonly scaleShift?: boolean;
	/** The result is divided by this. Default 1. */
	readonly outputScale?: number;
	/** Halving or doubling, done after the first activation and on the residual. */
	readonly resample?: (x: Value) => Value;
}

/** x [B, in, H, W] to [B, out, H', W']. `emb` [B, E] is the time embedding with its activation applied, or undefined for none. */
export function resnetBlock(ctx: LayerContext, x: Value, out: number, emb: Value | undefined, options: ResnetOptions): Value {
	const { g } = ctx;
	const { groups, epsilon, activation, scaleShift = false, outputScale = 1, resample = (v: Value) => v } = options;
	const act = activations[activation];
	const norm = (name: string, v: Value) => ctx.at(name, (c) => groupNorm(c, v, groups, epsilon));
	const first = resample(act(g, norm('norm1', x)));
	let h = ctx.at('conv1', (c) => conv2d(c, first, out, 3, { padding: 1 }));
	if (emb) {
		const channels = scaleShift ? 2 * out : out;
		const projected = ctx.at('time_emb_proj', (c) => linear(c, emb, channels));
		const planes = g.reshape(projected, [emb.shape[0]!, channels, 1, 1]);
		if (scaleShift) {
			const [scale, shift] = g.split(planes, [out, out], 1) as [Value, Value];
			h = g.add(g.mul(norm('norm2', h), g.add(scale, 1)), shift);
		} else h = norm('norm2', g.add(h, planes));
	} else h = norm('norm2', h);
	h = ctx.at('conv2', (c) => conv2d(c, act(g, h), out, 3, { padding: 1 }));
	const input = resample(x);
	const residual = x.shape[1] === out ? input : ctx.at('conv_shortcut', (c) => conv2d(c, input, out, 1));
	const sum = g.add(residual, h);
	return outputScale === 1 ? sum : g.div(sum, outputScale);
}
