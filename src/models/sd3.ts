/**
 * @file SD3Transformer2DModel: the multimodal transformer of Stable Diffusion 3 and 3.5 (Esser et al., 2403.03206), names and config as diffusers.
 * Legend: B batch, H and W latent rows and columns, T image tokens, L text tokens, C model width, P patch size.
 */
import { DiffusionPipeError } from '../core/errors.ts';
import type { Value } from '../graph/types.ts';
import type { Chain, Layer } from '../nn/chain.ts';
import type { LayerContext } from '../nn/context.ts';
import { jointBlock, jointOutput } from '../nn/joint-block.ts';
import { linear } from '../nn/linear.ts';
import { patchEmbed, unpatchify } from '../nn/patch.ts';
import { timeTextEmbedding } from '../nn/time-text.ts';
import { type OptionsOf, readConfig } from './config.ts';
import { type LatentGrid, latentGrid } from './latent-grid.ts';
import type { SizeOptions } from './sample-size.ts';

export interface SD3Config {
	sample_size: number;
	patch_size: number;
	in_channels: number;
	num_layers: number;
	attention_head_dim: number;
	num_attention_heads: number;
	joint_attention_dim: number;
	caption_projection_dim: number;
	pooled_projection_dim: number;
	out_channels: number | null;
	pos_embed_max_size: number;
	/** Numbers of the blocks with a second attention, over image tokens alone. */
	dual_attention_layers: readonly number[];
	qk_norm: 'rms_norm' | null;
}

const options: OptionsOf<SD3Config> = {
	sample_size: { kind: 'number', default: 128 },
	patch_size: { kind: 'number', default: 2 },
	in_channels: { kind: 'number', default: 16 },
	num_layers: { kind: 'number', default: 18 },
	attention_head_dim: { kind: 'number', default: 64 },
	num_attention_heads: { kind: 'number', default: 18 },
	joint_attention_dim: { kind: 'number', default: 4096 },
	caption_projection_dim: { kind: 'number', default: 1152 },
	pooled_projection_dim: { kind: 'number', default: 2048 },
	out_channels: { kind: 'number', default: 16, keepNull: true },
	pos_embed_max_size: { kind: 'number', default: 96 },
	dual_attention_layers: { kind: 'numbers', default: [] },
	qk_norm: { kind: 'only', values: [null, 'rms_norm'], default: null },
};

/** Checks a `config.json` of SD3Transformer2DModel and fills defaults in. */
export function readSD3Config(raw: unknown, place = 'SD3Transformer2DModel'): SD3Config {
	const config = readConfig<SD3Config>('SD3Transformer2DModel', raw, options, place);
	const width = config.num_attention_heads * config.attention_head_dim;
	if (config.caption_projection_dim !== width) {
		throw new DiffusionPipeError('config', 'option caption_projection_dim cannot be used', {
			place,
			expected: `num_attention_heads * attention_head_dim = ${width}`,
			found: `${config.caption_projection_dim}`,
		});
	}
	return config;
}

/** What a config leaves open. */
export interface SD3Options extends SizeOptions {
	/** Text tokens of the encoders together; 77 of CLIP and 256 of T5 (default 333) as pipelines have it. */
	readonly tokens?: number;
}

/**
 * hidden_states [B, in_channels, H, W], encoder_hidden_states [B, L, joint_attention_dim], pooled_projections [B, pooled_projection_dim],
 * timestep [B] (float32) to sample [B, out_channels, H, W].
 */
export function sd3Chain(config: SD3Config, chainOptions: SD3Options = {}): Chain {
	const { num_attention_heads: heads, in_channels, patch_size: P, num_layers, joint_attention_dim } = config;
	const width = heads * config.attention_head_dim;
	const outChannels = config.out_channels ?? in_channels;
	const grid = latentGrid(config.sample_size, P, chainOptions, 'SD3Transformer2DModel');

	const embed: Layer = {
		name: 'pos_embed',
		build(ctx, live) {
			const tokens_BTC = ctx.at('proj', (c) => patchEmbed(c, live.get('hidden_states'), width, P));
			live.set('hidden', ctx.g.add(tokens_BTC, centredPositions(ctx, config, grid, width)));
		},
	};
	const condition: Layer = {
		name: 'time_text_embed',
		build(ctx, live) {
			const inputs = { timestep: live.get('timestep'), pooled: live.get('pooled_projections') };
			live.set('temb', timeTextEmbedding(ctx, inputs, width));
		},
	};
	const context: Layer = {
		name: 'context_embedder',
		build(ctx, live) {
			live.set('encoder_hidden_states', linear(ctx, live.get('encoder_hidden_states'), width));
		},
	};
	const blocks = Array.from(
		{ length: num_layers },
		(_, i): Layer => ({
			name: `transformer_blocks.${i}`,
			build(ctx, live) {
				const { x, text } = jointBlock(ctx, live.get('hidden'), live.get('encoder_hidden_states'), live.get('temb'), {
					heads,
					qkNorm: config.qk_norm === 'rms_norm',
					dual: config.dual_attention_layers.includes(i),
					first: 'image',
					textOut: i < num_layers - 1,
				});
				live.set('hidden', x);
				if (text) live.set('encoder_hidden_states', text);
			},
		}),
	);
	const out: Layer = {
		name: 'proj_out',
		path: '',
		build(ctx, live) {
			const patches = jointOutput(ctx, live.get('hidden'), live.get('temb'), P * P * outChannels);
			live.set('sample', unpatchify(ctx.g, patches, grid.rows, grid.columns, P, outChannels));
		},
	};
	return {
		name: 'SD3Transformer2DModel',
		inputs: {
			hidden_states: { dtype: 'float32', shape: [in_channels, grid.height, grid.width] },
			encoder_hidden_states: { dtype: 'float32', shape: [chainOptions.tokens ?? 333, joint_attention_dim] },
			pooled_projections: { dtype: 'float32', shape: [config.pooled_projection_dim] },
			timestep: { dtype: 'float32', shape: [] },
		},
		layers: [embed, condition, context, ...blocks, out],
		outputs: ['sample'],
	};
}

/** The middle of the saved position table [1, M * M, C], as large as the grid: [1, T, C]. */
function centredPositions(ctx: LayerContext, config: SD3Config, { rows, columns }: LatentGrid, width: number): Value {
	const { g } = ctx;
	const side = config.pos_embed_max_size;
	if (rows > side || columns > side) {
		throw new DiffusionPipeError('config', 'the latent is larger than the position table', {
			place: 'SD3Transformer2DModel',
			expected: `at most pos_embed_max_size = ${side} patches a side`,
			found: `${rows} x ${columns} patches`,
		});
	}
	const baseSize = Math.floor(config.sample_size / config.patch_size);
	const init = { kind: 'position_sinusoid_2d', channels: width, side, baseSize } as const;
	const table = g.reshape(ctx.buffer('pos_embed', [1, side * side, width], init), [side, side, width]);
	const [top, left] = [Math.floor((side - rows) / 2), Math.floor((side - columns) / 2)];
	const middle = g.slice(table, [top, left], [top + rows, left + columns], [0, 1]);
	return g.reshape(middle, [1, rows * columns, width]);
}
