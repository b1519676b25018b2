/** @file Convolution and group-norm layers, with parameter names and layouts as PyTorch saves them. */
import type { Value } from '../graph/types.ts';
import type { Init, LayerContext } from './context.ts';
import { defaultInit } from './linear.ts';

export interface Conv2dOptions {
	readonly stride?: number;
	/** The same on all sides, or [top, left, bottom, right]. */
	readonly padding?: number | readonly [number, number, number, number];
	readonly bias?: boolean;
	readonly weightInit?: Init;
	readonly biasInit?: Init;
}

/** x [B, in, H, W] to [B, out, H', W'] with `weight` [out, in, kernel, kernel] and `bias` [out]. */
export function conv2d(ctx: LayerContext, x: Value, out: number, kernel: number, options: Conv2dOptions = {}): Value {
	const { stride = 1, padding = 0, bias = true, weightInit, biasInit } = options;
	const channels = x.shape[1]!;
	const fanIn = channels * kernel * kernel;
	const weight_OIKK = ctx.param('weight', [out, channels, kernel, kernel], weightInit ?? defaultInit(fanIn));
	const bias_O = bias ? ctx.param('bias', [out], biasInit ?? defaultInit(fanIn)) : undefined;
	const pads = typeof padding === 'number' ? [padding, padding, padding, padding] : padding;
	const place = { strides: [stride, stride], pads };
	const y = ctx.g.conv(x, weight_OIKK, bias_O, place);
	return ctx.adapter?.conv(x, y, [kernel, kernel], place) ?? y;
}

/** Group norm of x [B, C, ...] with trained `weight` and `bias` [C]. */
export function groupNorm(ctx: LayerContext, x: Value, groups: number, epsilon: number): Value {
	const channels = x.shape[1]!;
	return ctx.g.groupNorm(
		x,
		ctx.param('weight', [channels], { kind: 'ones' }),
		ctx.param('bias', [channels], { kind: 'zeros' }),
		groups,
		epsilon,
	);
}
