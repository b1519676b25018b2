/** @file Sinusoidal embeddings of timesteps and of 2-D positions, and the two-layer timestep MLP. */
import { type Tensor, tensor, zeros } from '../core/tensor.ts';
import type { GraphBuilder } from '../graph/builder.ts';
import type { Value } from '../graph/types.ts';
import type { Init, LayerContext } from './context.ts';
import { linear } from './linear.ts';

/** Options of diffusers' `get_timestep_embedding`. */
export interface SinusoidOptions {
	readonly flipSinToCos?: boolean;
	readonly downscaleFreqShift?: number;
	readonly scale?: number;
	readonly maxPeriod?: number;
}

/** timestep [batch] (float32) to [batch, width]: sines and cosines of geometrically spaced frequencies. */
export function timestepSinusoid(g: GraphBuilder, timestep_B: Value, width: number, options: SinusoidOptions = {}): Value {
	const { flipSinToCos = false, downscaleFreqShift = 1, scale = 1, maxPeriod = 10000 } = options;
	const half = Math.floor(width / 2);
	const frequencies = Array.from({ length: half }, (_, i) => scale * Math.exp((-Math.log(maxPeriod) * i) / (half - downscaleFreqShift)));
	const freqs_1F = g.constant(tensor('float32', [1, half], frequencies));
	const angles_BF = g.mul(g.unsqueeze(timestep_B, [1]), freqs_1F);
	const parts = [g.sin(angles_BF), g.cos(angles_BF)];
	if (flipSinToCos) parts.reverse();
	const both = g.concat(parts, 1);
	return width % 2 === 0 ? both : g.pad(both, [0, 0, 0, 1]);
}

/** `TimestepEmbedding`: linear_1, an activation, linear_2 on [batch, in]. */
export function timestepMlp(
	ctx: LayerContext,
	x: Value,
	width: number,
	init?: Init,
	activation: (g: GraphBuilder, x: Value) => Value = silu,
): Value {
	const options = init ? { weightInit: init, biasInit: { kind: 'zeros' } as const } : {};
	const hidden = ctx.at('linear_1', (c) => linear(c, x, width, options));
	return ctx.at('linear_2', (c) => linear(c, activation(ctx.g, hidden), width, options));
}

/** x * sigmoid(x). */
export function silu(g: GraphBuilder, x: Value): Value {
	return g.mul(x, g.sigmoid(x));
}

/**
 * Fixed 2-D sine-cosine position embedding [1, height * width, channels] (diffusers' `get_2d_sincos_pos_embed`): the first half
 * of the channels encodes the column, the second the row, each as sines then cosines.
 * `baseSize` and `interpolationScale` rescale positions as PixArt and DiT do.
 */
export function positionSinusoid2d(
	channels: number,
	height: number,
	width: number,
	baseSize = width,
	interpolationScale = 1,
): Tensor<'float32'> {
	const half = channels / 2;
	const quarter = half / 2;
	/** Rows of half a token's channels, one per position. */
	const along = (count: number) =>
		Array.from({ length: count }, (_, k) => {
			const position = k / (count / baseSize) / interpolationScale;
			const angle = (i: number) => position / 10000 ** ((i % quarter) / quarter);
			return Float32Array.from({ length: half }, (_, i) => (i < quarter ? Math.sin(angle(i)) : Math.cos(angle(i))));
		});
	const [rows, columns] = [along(height), along(width)];
	const out = zeros('float32', [1, height * width, channels]);
	for (let token = 0; token < height * width; token++) {
		out.data.set(columns[token % width]!, token * channels);
		out.data.set(rows[Math.floor(token / width)]!, token * channels + half);
	}
	return out;
}
