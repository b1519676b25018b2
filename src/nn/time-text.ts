/** @file Conditioning vectors of timestep, guidance scale and pooled text. Legend: B batch, C width. */
import type { Value } from '../graph/types.ts';
import type { Init, LayerContext } from './context.ts';
import { silu, timestepMlp, timestepSinusoid } from './embeddings.ts';
import { type LinearStart, linear } from './linear.ts';

/** 256 sinusoids of x [B], cosines first: the start of every timestep embedding of the transformers here. */
export function sinusoid256(ctx: LayerContext, x_B: Value): Value {
	return timestepSinusoid(ctx.g, x_B, 256, { flipSinToCos: true, downscaleFreqShift: 0 });
}

/** diffusers' `PixArtAlphaTextProjection`: linear_1, activation, linear_2, on [..., in]. */
export function textProjection(
	ctx: LayerContext,
	x: Value,
	width: number,
	activation: 'gelu-approximate' | 'silu',
	weightInit?: Init,
): Value {
	const start: LinearStart = weightInit ? { weightInit, biasInit: { kind: 'zeros' } } : {};
	const hidden = ctx.at('linear_1', (c) => linear(c, x, width, start));
	const active = activation === 'silu' ? silu(ctx.g, hidden) : ctx.g.gelu(hidden, 'tanh');
	return ctx.at('linear_2', (c) => linear(c, active, width, start));
}

export interface TimeTextInputs {
	/** [B], in steps of a schedule of 1000. */
	readonly timestep: Value;
	/** [B], in the same unit; models without guidance embedding have none. */
	readonly guidance?: Value;
	/** [B, pooled width]. */
	readonly pooled: Value;
}

/** `CombinedTimestepTextProjEmbeddings`, with guidance where given: the sum of the embeddings, [B, width]. */
export function timeTextEmbedding(ctx: LayerContext, { timestep, guidance, pooled }: TimeTextInputs, width: number): Value {
	const { g } = ctx;
	let sum = ctx.at('timestep_embedder', (c) => timestepMlp(c, sinusoid256(c, timestep), width));
	if (guidance)
		sum = g.add(
			sum,
			ctx.at('guidance_embedder', (c) => timestepMlp(c, sinusoid256(c, guidance), width)),
		);
	return g.add(
		sum,
		ctx.at('text_embedder', (c) => textProjection(c, pooled, width, 'silu')),
	);
}
