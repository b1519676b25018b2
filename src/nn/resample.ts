/** @file Halving and doubling of feature maps. Legend: B batch, C channels, H and W rows and columns. */
import type { GraphBuilder } from '../graph/builder.ts';
import type { Value } from '../graph/types.ts';
import type { LayerContext } from './context.ts';
import { conv2d } from './conv.ts';

/** Padding of a downsampling convolution: 1 on every side, or 0 with one row and column added at the end. */
export type DownsamplePadding = 0 | 1;

/** `Downsample2D`: x [B, C, H, W] to [B, C, H/2, W/2] by a 3x3 convolution of stride 2 named `conv`. Odd sizes round up with padding 1, else down. */
export function downsample2d(ctx: LayerContext, x: Value, padding: DownsamplePadding): Value {
	const pads = padding === 0 ? ([0, 0, 1, 1] as const) : 1;
	return ctx.at('conv', (c) => conv2d(c, x, x.shape[1]!, 3, { stride: 2, padding: pads }));
}

/** Rows or columns after `downsample2d`. */
export function downsampledSize(size: number, padding: DownsamplePadding): number {
	return padding === 0 ? Math.floor(size / 2) : Math.ceil(size / 2);
}

/** x [B, C, H, W] to [B, C, height, width], each entry the nearest one at or before it. */
export function upsampleNearestTo(g: GraphBuilder, x: Value, height: number, width: number): Value {
	const [batch, channels] = x.shape as [number, number];
	const attributes = { mode: 'nearest', nearest_mode: 'floor', coordinate_transformation_mode: 'asymmetric' };
	return g.one('Resize', [x, undefined, undefined, g.ints([batch, channels, height, width])], attributes);
}

/** `Upsample2D`: nearest neighbours up to [B, C, height, width], then a 3x3 convolution named `conv`. */
export function upsample2d(ctx: LayerContext, x: Value, height: number, width: number): Value {
	const large = upsampleNearestTo(ctx.g, x, height, width);
	return ctx.at('conv', (c) => conv2d(c, large, x.shape[1]!, 3, { padding: 1 }));
}
