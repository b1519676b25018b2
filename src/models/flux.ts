/**
 * @file FluxTransformer2DModel: the transformer of Flux.1, blocks of two streams and then of one, with rotary positions; names and config as
 * diffusers. Legend: B batch, T image tokens, L text tokens, C model width.
 */
import { DiffusionPipeError } from '../core/errors.ts';
import { type Tensor, zeros } from '../core/tensor.ts';
import type { Value } from '../graph/types.ts';
import type { Chain, Layer, Live } from '../nn/chain.ts';
import type { LayerContext } from '../nn/context.ts';
import { normedSelfAttention } from '../nn/joint-attention.ts';
import { jointBlock, jointOutput } from '../nn/joint-block.ts';
import { linear } from '../nn/linear.ts';
import { modulation } from '../nn/modulation.ts';
import { modulatedNorm } from '../nn/norm.ts';
import { type RotaryTables, rotaryTables } from '../nn/rotary.ts';
import { timeTextEmbedding } from '../nn/time-text.ts';
import { type OptionsOf, readConfig } from './config.ts';
import { latentGrid } from './latent-grid.ts';
import type { SizeOptions } from './sample-size.ts';

export interface FluxConfig {
	patch_size: 1;
	in_channels: number;
	out_channels: number | null;
	num_layers: number;
	num_single_layers: number;
	attention_head_dim: number;
	num_attention_heads: number;
	joint_attention_dim: number;
	pooled_projection_dim: number;
	guidance_embeds: boolean;
	/** Channels of a head for each position axis (image index, row, column). */
	axes_dims_rope: readonly number[];
}

const options: OptionsOf<FluxConfig> = {
	// Pixels are packed into channels before the model; it has never had another patch size.
	patch_size: { kind: 'only', values: [1], default: 1 },
	in_channels: { kind: 'number', default: 64 },
	out_channels: { kind: 'number', default: null },
	num_layers: { kind: 'number', default: 19 },
	num_single_layers: { kind: 'number', default: 38 },
	attention_head_dim: { kind: 'number', default: 128 },
	num_attention_heads: { kind: 'number', default: 24 },
	joint_attention_dim: { kind: 'number', default: 4096 },
	pooled_projection_dim: { kind: 'number', default: 768 },
	guidance_embeds: { kind: 'boolean', default: false },
	axes_dims_rope: { kind: 'numbers', default: [16, 56, 56] },
};

/** Checks a `config.json` of FluxTransformer2DModel and fills defaults in. */
export function readFluxConfig(raw: unknown, place = 'FluxTransformer2DModel'): FluxConfig {
	const config = readConfig<FluxConfig>('FluxTransformer2DModel', raw, options, place);
	const axes = config.axes_dims_rope;
	if (axes.some((d) => d % 2 !== 0) || axes.reduce((a, b) => a + b, 0) !== config.attention_head_dim) {
		throw new DiffusionPipeError('config', 'option axes_dims_rope cannot be used', {
			place,
			expected: `even numbers whose sum is attention_head_dim = ${config.attention_head_dim}`,
			found: JSON.stringify(axes),
		});
	}
	return config;
}

/** What a config leaves open. `height` and `width` are the latent's rows and columns (default 128), packed two by two into tokens. */
export interface FluxOptions extends SizeOptions {
	/** Text tokens of T5; 512 for Flux.1-dev (default), 256 for schnell. */
	readonly tokens?: number;
}

/**
 * hidden_states [B, T, in_channels] (packed latents), encoder_hidden_states [B, L, joint_attention_dim], pooled_projections
 * [B, pooled_projection_dim], timestep [B] and guidance [B] where the model has it (float32; the timestep from 0 to 1), img_ids [B, T, axes] and
 * txt_ids [B, L, axes] (float32 positions of the tokens) to sample [B, T, out_channels].
 */
export function fluxChain(config: FluxConfig, chainOptions: FluxOptions = {}): Chain {
	const { num_attention_heads: heads, in_channels, axes_dims_rope: axes, joint_attention_dim, num_single_layers } = config;
	const { tokens: textTokens = 512 } = chainOptions;
	const width = heads * config.attention_head_dim;
	const grid = latentGrid(128, 2, chainOptions, 'FluxTransformer2DModel');
	const tokens = grid.rows * grid.columns;
	const positions = ({ g }: LayerContext, live: Live) => rotaryTables(g, g.concat([live.get('txt_ids'), live.get('img_ids')], 1), axes);

	const embed: Layer = {
		name: 'x_embedder',
		build(ctx, live) {
			live.set('hidden', linear(ctx, live.get('hidden_states'), width));
		},
	};
	const condition: Layer = {
		name: 'time_text_embed',
		build(ctx, live) {
			const thousand = (name: string) => ctx.g.mul(live.get(name), 1000);
			const inputs = {
				timestep: thousand('timestep'),
				pooled: live.get('pooled_projections'),
				...(config.guidance_embeds ? { guidance: thousand('guidance') } : {}),
			};
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
		{ length: config.num_layers },
		(_, i): Layer => ({
			name: `transformer_blocks.${i}`,
			build(ctx, live) {
				const { x, text } = jointBlock(ctx, live.get('hidden'), live.get('encoder_hidden_states'), live.get('temb'), {
					heads,
					qkNorm: true,
					rotary: positions(ctx, live),
					dual: false,
					first: 'text',
					textOut: true,
				});
				live.set('hidden', x);
				live.set('encoder_hidden_states', text!);
			},
		}),
	);
	const singles = Array.from(
		{ length: num_single_layers },
		(_, i): Layer => ({
			name: `single_transformer_blocks.${i}`,
			build(ctx, live) {
				// Text and image tokens stay one sequence from the first of these blocks on.
				const joined = i === 0 ? ctx.g.concat([live.get('encoder_hidden_states'), live.get('hidden')], 1) : live.get('joined');
				live.set('joined', singleBlock(ctx, joined, live.get('temb'), heads, positions(ctx, live)));
			},
		}),
	);
	const out: Layer = {
		name: 'proj_out',
		path: '',
		build(ctx, live) {
			const image =
				num_single_layers === 0 ? live.get('hidden') : ctx.g.slice(live.get('joined'), [textTokens], [textTokens + tokens], [1]);
			live.set('sample', jointOutput(ctx, image, live.get('temb'), config.out_channels ?? in_channels));
		},
	};
	return {
		name: 'FluxTransformer2DModel',
		inputs: {
			hidden_states: { dtype: 'float32', shape: [tokens, in_channels] },
			encoder_hidden_states: { dtype: 'float32', shape: [textTokens, joint_attention_dim] },
			pooled_projections: { dtype: 'float32', shape: [config.pooled_projection_dim] },
			timestep: { dtype: 'float32', shape: [] },
			img_ids: { dtype: 'float32', shape: [tokens, axes.length] },
			txt_ids: { dtype: 'float32', shape: [textTokens, axes.length] },
			...(config.guidance_embeds ? { guidance: { dtype: 'float32', shape: [] } } : {}),
		},
		layers: [embed, condition, context, ...blocks, ...singles, out],
		outputs: ['sample'],
	};
}

/** Attention and feed-forward side by side on x [B,T,C], joined by one projection, under the conditioning emb [B,C]. */
function singleBlock(ctx: LayerContext, x_BTC: Value, emb_BC: Value, heads: number, rotary: RotaryTables): Value {
	const { g } = ctx;
	const width = x_BTC.shape[2]!;
	const [shift, scale, gate] = ctx.at('norm', (c) => modulation(c, emb_BC, 3, width)) as [Value, Value, Value];
	const normed = modulatedNorm(g, x_BTC, scale, shift, 1e-6);
	const mlp = g.gelu(
		ctx.at('proj_mlp', (c) => linear(c, normed, 4 * width)),
		'tanh',
	);
	const attended = ctx.at('attn', (c) => normedSelfAttention(c, normed, { heads, qkNorm: true, rotary, out: false }));
	const both = ctx.at('proj_out', (c) => linear(c, g.concat([attended, mlp], 2), width));
	return g.add(x_BTC, g.mul(gate, both));
}

/** img_ids [T, axes] of the tokens of a packed latent: its row and column on the last two axes, 0 on those before. */
export function fluxImageIds(config: FluxConfig, options: SizeOptions = {}): Tensor<'float32'> {
	const { rows, columns } = latentGrid(128, 2, options, 'FluxTransformer2DModel');
	const axes = config.axes_dims_rope.length;
	const ids = zeros('float32', [rows * columns, axes]);
	for (let token = 0; token < rows * columns; token++) {
		ids.data[token * axes + axes - 2] = Math.floor(token / columns);
		ids.data[token * axes + axes - 1] = token % columns;
	}
	return ids;
}
