/** @file Images to patch tokens and back. */
import type { GraphBuilder } from '../graph/builder.ts';
import type { Value } from '../graph/types.ts';
import type { LayerContext } from './context.ts';
import type { LinearOptions } from './linear.ts';

/**
 * x [B, C, H, W] to tokens [B, H/P * W/P, width]: a convolution with kernel and stride P, parameters `weight` [width, C, P, P]
 * and `bias` (unless told not), computed as one matrix product over patches, whose gradients are products too.
 */
export function patchEmbed(ctx: LayerContext, x: Value, width: number, P: number, options: LinearOptions = {}): Value {
	const { g } = ctx;
	const { bias = true, biasInit } = options;
	const [batch, channels, height, columns] = x.shape as [number, number, number, number];
	const [h, w] = [height / P, columns / P];
	const inner = channels * P * P;
	const init = options.weightInit ?? ({ kind: 'xavier_uniform', fanIn: inner, fanOut: width } as const);
	const weight_OI = g.reshape(ctx.param('weight', [width, channels, P, P], init), [width, inner]);
	const bias_O = bias ? ctx.param('bias', [width], biasInit ?? { kind: 'zeros' }) : undefined;
	const patches = g.transpose(g.reshape(x, [batch, channels, h, P, w, P]), [0, 2, 4, 1, 3, 5]);
	return g.reshape(g.gemm(g.reshape(patches, [batch * h * w, inner]), weight_OI, bias_O, { transB: true }), [batch, h * w, width]);
}

/** Tokens [B, h*w, P*P*C] to an image [B, C, h*P, w*P]; the last axis is ordered row, column, channel within the patch. */
export function unpatchify(g: GraphBuilder, x: Value, h: number, w: number, P: number, channels: number): Value {
	const batch = x.shape[0]!;
	const cells = g.transpose(g.reshape(x, [batch, h, w, P, P, channels]), [0, 5, 1, 3, 2, 4]);
	return g.reshape(cells, [batch, channels, h * P, w * P]);
}
