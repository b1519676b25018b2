/**
 * @file PixArtTransformer2DModel: the text-conditional transformer of PixArt-alpha (Chen et al., 2310.00426) and -Sigma, names and config as
 * diffusers. Legend: B batch, H and W latent rows and columns, T image tokens, L text tokens, C model width, P patch size.
 */
import { DiffusionPipeError } from '../core/errors.ts';
import type { GraphBuilder } from '../graph/builder.ts';
import type { Value } from '../graph/types.ts';
import type { Chain, ChainInput, Layer } from '../nn/chain.ts';
import type { LayerContext } from '../nn/context.ts';
import { positionSinusoid2d, silu, timestepMlp } from '../nn/embeddings.ts';
import { feedForward } from '../nn/feed-forward.ts';
import { linear, xavierStart, zeroStart } from '../nn/linear.ts';
import { chunk } from '../nn/modulation.ts';
import { modulatedNorm } from '../nn/norm.ts';
import { patchEmbed, unpatchify } from '../nn/patch.ts';
import { projectedAttention } from '../nn/projected-attention.ts';
import { sinusoid256, textProjection } from '../nn/time-text.ts';
import { type OptionsOf, readConfig } from './config.ts';
import { latentGrid } from './latent-grid.ts';
import type { SizeOptions } from './sample-size.ts';

export interface PixArtConfig {
	num_attention_heads: number;
	attention_head_dim: number;
	in_channels: number;
	out_channels: number | null;
	num_layers: number;
	dropout: number;
	norm_num_groups: number;
	cross_attention_dim: number | null;
	attention_bias: boolean;
	sample_size: number;
	patch_size: number;
	activation_fn: 'gelu-approximate' | 'gelu';
	num_embeds_ada_norm: number;
	upcast_attention: boolean;
	norm_type: 'ada_norm_single';
	norm_elementwise_affine: boolean;
	norm_eps: number;
	interpolation_scale: number | null;
	use_additional_conditions: boolean | null;
	caption_channels: number | null;
	attention_type: 'default';
}

const options: OptionsOf<PixArtConfig> = {
	num_attention_heads: { kind: 'number', default: 16 },
	attention_head_dim: { kind: 'number', default: 72 },
	in_channels: { kind: 'number', default: 4 },
	out_channels: { kind: 'number', default: 8, keepNull: true },
	num_layers: { kind: 'number', default: 28 },
	dropout: { kind: 'only', values: [0], default: 0 },
	norm_num_groups: { kind: 'any', default: 32 },
	cross_attention_dim: { kind: 'number', default: 1152, keepNull: true },
	attention_bias: { kind: 'boolean', default: true },
	sample_size: { kind: 'number', default: 128 },
	patch_size: { kind: 'number', default: 2 },
	activation_fn: { kind: 'only', values: ['gelu-approximate', 'gelu'], default: 'gelu-approximate' },
	num_embeds_ada_norm: { kind: 'number', default: 1000 },
	upcast_attention: { kind: 'any', default: false },
	norm_type: { kind: 'only', values: ['ada_norm_single'], default: 'ada_norm_single' },
	norm_elementwise_affine: { kind: 'only', values: [false], default: false },
	norm_eps: { kind: 'number', default: 1e-6 },
	interpolation_scale: { kind: 'number', default: null },
	use_additional_conditions: { kind: 'boolean', default: null },
	caption_channels: { kind: 'number', default: null },
	attention_type: { kind: 'only', values: ['default'], default: 'default' },
};

/** Checks a `config.json` of PixArtTransformer2DModel and fills defaults in. */
export function readPixArtConfig(raw: unknown, place = 'PixArtTransformer2DModel'): PixArtConfig {
	const config = readConfig<PixArtConfig>('PixArtTransformer2DModel', raw, options, place);
	const width = config.num_attention_heads * config.attention_head_dim;
	const text = config.caption_channels === null ? undefined : width;
	if (config.cross_attention_dim === null || (text !== undefined && config.cross_attention_dim !== text)) {
		throw new DiffusionPipeError('config', 'option cross_attention_dim cannot be used', {
			place,
			expected:
				text === undefined ? 'the width of encoder_hidden_states' : `the model's width ${text}, to which the captions are projected`,
			found: String(config.cross_attention_dim),
		});
	}
	return config;
}

/** What a config leaves open. */
export interface PixArtOptions extends SizeOptions {
	/** Text tokens; 120 in PixArt-alpha (default), 300 in PixArt-Sigma. */
	readonly tokens?: number;
	/** Adds the input encoder_attention_mask (int64), 1 for the text tokens to look at, 0 for padding. */
	readonly attentionMask?: boolean;
}

/** True when the model takes the picture's size: said so, or by default for latents of 128. */
export function usesSizeConditions({ use_additional_conditions, sample_size }: PixArtConfig): boolean {
	return use_additional_conditions ?? sample_size === 128;
}

/**
 * hidden_states [B, in_channels, H, W], encoder_hidden_states [B, L, caption_channels], timestep [B] (float32), with size conditions
 * resolution [B, 2] (height and width in pixels) and aspect_ratio [B, 1], to sample [B, out_channels, H, W].
 */
export function pixartChain(config: PixArtConfig, chainOptions: PixArtOptions = {}): Chain {
	const { num_attention_heads: heads, in_channels, patch_size: P, sample_size } = config;
	const { tokens: textTokens = 120, attentionMask = false } = chainOptions;
	const width = heads * config.attention_head_dim;
	const outChannels = config.out_channels ?? in_channels;
	const grid = latentGrid(sample_size, P, chainOptions, 'PixArtTransformer2DModel');
	const interpolation = config.interpolation_scale ?? Math.max(Math.floor(sample_size / 64), 1);
	const sized = usesSizeConditions(config);

	const embed: Layer = {
		name: 'pos_embed',
		build(ctx, live) {
			const tokens_BTC = ctx.at('proj', (c) => patchEmbed(c, live.get('hidden_states'), width, P));
			const positions = positionSinusoid2d(width, grid.rows, grid.columns, Math.floor(sample_size / P), interpolation);
			live.set('hidden', ctx.g.add(tokens_BTC, ctx.g.constant(positions)));
		},
	};
	const condition: Layer = {
		name: 'adaln_single',
		build(ctx, live) {
			const time = ctx.at('emb.timestep_embedder', (c) => timestepMlp(c, sinusoid256(c, live.get('timestep')), width));
			const emb_BC = sized ? ctx.g.add(time, sizeEmbedding(ctx, live.get('resolution'), live.get('aspect_ratio'), width)) : time;
			live.set('embedded_timestep', emb_BC);
			live.set(
				'modulation',
				ctx.at('linear', (c) => linear(c, silu(ctx.g, emb_BC), 6 * width)),
			);
		},
	};
	const captions: Layer = {
		name: 'caption_projection',
		build(ctx, live) {
			live.set('encoder_hidden_states', textProjection(ctx, live.get('encoder_hidden_states'), width, 'gelu-approximate'));
		},
	};
	const blocks = Array.from(
		{ length: config.num_layers },
		(_, i): Layer => ({
			name: `transformer_blocks.${i}`,
			build(ctx, live) {
				const { g } = ctx;
				const table_6C = ctx.param('scale_shift_table', [6, width], { kind: 'normal', std: 1 / Math.sqrt(width) });
				const mod_BW = g.add(live.get('modulation'), g.reshape(table_6C, [1, 6 * width]));
				const pieces = chunk(g, mod_BW, 6) as [Value, Value, Value, Value, Value, Value];
				const [shiftMsa, scaleMsa, gateMsa, shiftMlp, scaleMlp, gateMlp] = pieces;
				const attend = { heads, bias: config.attention_bias, init: xavierStart };
				const x_BTC = live.get('hidden');
				const normed = modulatedNorm(g, x_BTC, scaleMsa, shiftMsa, config.norm_eps);
				const own = ctx.at('attn1', (c) => projectedAttention(c, normed, normed, attend));
				const a_BTC = g.add(x_BTC, g.mul(gateMsa, own));
				const text = live.get('encoder_hidden_states');
				const mask = attentionMask ? { mask: maskBias(g, live.get('encoder_attention_mask')) } : {};
				const cross = ctx.at('attn2', (c) => projectedAttention(c, a_BTC, text, { ...attend, ...mask, outInit: zeroStart }));
				const b_BTC = g.add(a_BTC, cross);
				const again = modulatedNorm(g, b_BTC, scaleMlp, shiftMlp, config.norm_eps);
				const fed = ctx.at('ff', (c) => feedForward(c, again, 4 * width, config.activation_fn, xavierStart));
				live.set('hidden', g.add(b_BTC, g.mul(gateMlp, fed)));
			},
		}),
	);
	const out: Layer = {
		name: 'proj_out',
		path: '',
		build(ctx, live) {
			const { g } = ctx;
			const table_2C = ctx.param('scale_shift_table', [2, width], { kind: 'normal', std: 1 / Math.sqrt(width) });
			const emb_BC = live.get('embedded_timestep');
			// The same embedding shifts and scales; only the table parts the two.
			const [shift, scale] = g.split(table_2C, [1, 1], 0).map((row) => g.reshape(g.add(emb_BC, row), [emb_BC.shape[0]!, 1, width])) as [
				Value,
				Value,
			];
			const y_BTC = modulatedNorm(g, live.get('hidden'), scale, shift, 1e-6);
			const patches = ctx.at('proj_out', (c) => linear(c, y_BTC, P * P * outChannels, zeroStart));
			live.set('sample', unpatchify(g, patches, grid.rows, grid.columns, P, outChannels));
		},
	};
	const text: ChainInput = { dtype: 'float32', shape: [textTokens, config.caption_channels ?? config.cross_attention_dim!] };
	return {
		name: 'PixArtTransformer2DModel',
		inputs: {
			hidden_states: { dtype: 'float32', shape: [in_channels, grid.height, grid.width] },
			encoder_hidden_states: text,
			timestep: { dtype: 'float32', shape: [] },
			...(attentionMask ? { encoder_attention_mask: { dtype: 'int64', shape: [textTokens] } } : {}),
			...(sized ? { resolution: { dtype: 'float32', shape: [2] }, aspect_ratio: { dtype: 'float32', shape: [1] } } : {}),
		},
		layers: [embed, condition, ...(config.caption_channels === null ? [] : [captions]), ...blocks, out],
		outputs: ['sample'],
	};
}

/** Resolution [B, 2] and aspect ratio [B, 1], each number embedded in a third of the width, side by side: [B, width]. */
function sizeEmbedding(ctx: LayerContext, resolution_B2: Value, ratio_B1: Value, width: number): Value {
	const { g } = ctx;
	const batch = resolution_B2.shape[0]!;
	const third = Math.floor(width / 3);
	const part = (name: string, x: Value) => {
		const each = ctx.at(`emb.${name}`, (c) => timestepMlp(c, sinusoid256(c, g.reshape(x, [-1])), third));
		return g.reshape(each, [batch, -1]);
	};
	return g.concat([part('resolution_embedder', resolution_B2), part('aspect_ratio_embedder', ratio_B1)], 1);
}

/** A mask [B, L] of ones and zeros (int64) as what is added to scores: [B, 1, 1, L]. */
function maskBias(g: GraphBuilder, mask_BL: Value): Value {
	return g.unsqueeze(g.mul(g.sub(1, g.cast(mask_BL, 'float32')), -10000), [1, 2]);
}
