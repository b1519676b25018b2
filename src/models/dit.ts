/**
 * @file DiTTransformer2DModel: the class-conditional diffusion transformer (Peebles & Xie, 2212.09748), names and config as diffusers.
 * Legend: B batch, H and W latent rows and columns, T tokens, C model width, P patch size.
 */
import type { Value } from '../graph/types.ts';
import type { Chain, Layer } from '../nn/chain.ts';
import type { Init, LayerContext } from '../nn/context.ts';
import { positionSinusoid2d, silu, timestepMlp, timestepSinusoid } from '../nn/embeddings.ts';
import { feedForward } from '../nn/feed-forward.ts';
import { embedding, linear, xavierStart } from '../nn/linear.ts';
import { chunk, modulation } from '../nn/modulation.ts';
import { modulatedNorm } from '../nn/norm.ts';
import { patchEmbed, unpatchify } from '../nn/patch.ts';
import { projectedAttention } from '../nn/projected-attention.ts';
import { type OptionsOf, readConfig } from './config.ts';
import { latentGrid } from './latent-grid.ts';
import type { SizeOptions } from './sample-size.ts';

export interface DiTConfig {
	num_attention_heads: number;
	attention_head_dim: number;
	in_channels: number;
	out_channels: number | null;
	num_layers: number;
	dropout: number;
	norm_num_groups: number;
	attention_bias: boolean;
	sample_size: number;
	patch_size: number;
	activation_fn: 'gelu-approximate' | 'gelu';
	num_embeds_ada_norm: number | null;
	upcast_attention: boolean;
	norm_type: 'ada_norm_zero';
	norm_elementwise_affine: boolean;
	norm_eps: number;
}

const options: OptionsOf<DiTConfig> = {
	num_attention_heads: { kind: 'number', default: 16 },
	attention_head_dim: { kind: 'number', default: 72 },
	in_channels: { kind: 'number', default: 4 },
	out_channels: { kind: 'number', default: null },
	num_layers: { kind: 'number', default: 28 },
	dropout: { kind: 'only', values: [0], default: 0 },
	norm_num_groups: { kind: 'any', default: 32 },
	attention_bias: { kind: 'boolean', default: true },
	sample_size: { kind: 'number', default: 32 },
	patch_size: { kind: 'number', default: 2 },
	activation_fn: { kind: 'only', values: ['gelu-approximate', 'gelu'], default: 'gelu-approximate' },
	num_embeds_ada_norm: { kind: 'number', default: 1000 },
	upcast_attention: { kind: 'any', default: false },
	norm_type: { kind: 'only', values: ['ada_norm_zero'], default: 'ada_norm_zero' },
	norm_elementwise_affine: { kind: 'only', values: [false], default: false },
	norm_eps: { kind: 'number', default: 1e-5 },
};

/** Checks a `config.json` of DiTTransformer2DModel and fills defaults in. */
export function readDiTConfig(raw: unknown, place?: string): DiTConfig {
	return readConfig<DiTConfig>('DiTTransformer2DModel', raw, options, place);
}

const zeros: Init = { kind: 'zeros' };

type Six = [Value, Value, Value, Value, Value, Value];

/**
 * hidden_states [B, in_channels, H, W], timestep [B] (float32), class_labels [B] (int64, num_embeds_ada_norm = no class)
 * to sample [B, out_channels, H, W]. One layer per block, and the patch embedding and output as layers of their own. Sizes other than the config's
 * see its positions stretched. Throws a config error when a size does not divide into patches.
 */
export function ditChain(config: DiTConfig, size: SizeOptions = {}): Chain {
	const { num_attention_heads: heads, attention_head_dim: headDim, in_channels, sample_size, patch_size: P } = config;
	const width = heads * headDim;
	const outChannels = config.out_channels ?? in_channels;
	const grid = latentGrid(sample_size, P, size, 'DiTTransformer2DModel');
	const baseSize = Math.floor(sample_size / P);
	const classes = config.num_embeds_ada_norm ?? 1000;
	const embed: Layer = {
		name: 'pos_embed',
		build(ctx, live) {
			const x_BCHW = live.get('hidden_states');
			const tokens_BTC = ctx.at('proj', (c) => patchEmbed(c, x_BCHW, width, P));
			live.set('hidden', ctx.g.add(tokens_BTC, ctx.g.constant(positionSinusoid2d(width, grid.rows, grid.columns, baseSize))));
		},
	};
	const blocks = Array.from(
		{ length: config.num_layers },
		(_, i): Layer => ({
			name: `transformer_blocks.${i}`,
			build(ctx, live) {
				const { g } = ctx;
				const emb_BC = ctx.at('norm1', (n) =>
					n.at('emb', (c) => combinedEmbedding(c, live.get('timestep'), live.get('class_labels'), width, classes)),
				);
				// The output layer is conditioned on the first block's embedding.
				if (i === 0) live.set('conditioning', emb_BC);
				const pieces = ctx.at('norm1', (n) => modulation(n, emb_BC, 6, width));
				const [shiftMsa, scaleMsa, gateMsa, shiftMlp, scaleMlp, gateMlp] = pieces as Six;
				const x_BTC = live.get('hidden');
				const normed = modulatedNorm(g, x_BTC, scaleMsa, shiftMsa, 1e-6);
				const attended = ctx.at('attn1', (c) =>
					projectedAttention(c, normed, normed, { heads, bias: config.attention_bias, init: xavierStart }),
				);
				const h_BTC = g.add(x_BTC, g.mul(gateMsa, attended));
				const again = modulatedNorm(g, h_BTC, scaleMlp, shiftMlp, config.norm_eps);
				const fed = ctx.at('ff', (c) => feedForward(c, again, 4 * width, config.activation_fn, xavierStart));
				live.set('hidden', g.add(h_BTC, g.mul(gateMlp, fed)));
			},
		}),
	);
	const out: Layer = {
		name: 'proj_out',
		path: '',
		build(ctx, live) {
			const { g } = ctx;
			const options = { weightInit: zeros, biasInit: zeros };
			const mod_B2C = ctx.at('proj_out_1', (c) => linear(c, silu(g, live.get('conditioning')), 2 * width, options));
			const [shift, scale] = chunk(g, mod_B2C, 2) as [Value, Value];
			const y_BTC = modulatedNorm(g, live.get('hidden'), scale, shift, 1e-6);
			const patches = ctx.at('proj_out_2', (c) => linear(c, y_BTC, P * P * outChannels, options));
			live.set('sample', unpatchify(g, patches, grid.rows, grid.columns, P, outChannels));
		},
	};
	return {
		name: 'DiTTransformer2DModel',
		inputs: {
			hidden_states: { dtype: 'float32', shape: [in_channels, grid.height, grid.width] },
			timestep: { dtype: 'float32', shape: [] },
			class_labels: { dtype: 'int64', shape: [] },
		},
		layers: [embed, ...blocks, out],
		outputs: ['sample'],
	};
}

/** `CombinedTimestepLabelEmbeddings`: timestep MLP plus class table (one row more than classes, for dropped labels). */
function combinedEmbedding(ctx: LayerContext, timestep_B: Value, labels_B: Value, width: number, classes: number): Value {
	const { g } = ctx;
	const sinusoid = timestepSinusoid(g, timestep_B, 256, { flipSinToCos: true, downscaleFreqShift: 1 });
	const time = ctx.at('timestep_embedder', (c) => timestepMlp(c, sinusoid, width));
	const label = ctx.at('class_embedder', (c) => c.at('embedding_table', (t) => embedding(t, labels_B, classes + 1, width)));
	return g.add(time, label);
}
