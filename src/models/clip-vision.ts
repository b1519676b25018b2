/**
 * @file CLIPVisionModelWithProjection: the image transformer of CLIP (Radford et al., 2103.00020), names and config as transformers. Legend: B batch,
 * N patches, C width, P patch size.
 */
import type { Chain, Layer } from '../nn/chain.ts';
import { linear } from '../nn/linear.ts';
import { layerNorm } from '../nn/norm.ts';
import { patchEmbed } from '../nn/patch.ts';
import { type CLIPBlockConfig, checkHeads, clipBlock } from './clip-block.ts';
import type { OptionsOf } from './config.ts';
import { readTransformersConfig, textActivationNames } from './transformers-config.ts';

export interface CLIPVisionConfig extends CLIPBlockConfig {
	projection_dim: number;
	num_channels: number;
	image_size: number;
	patch_size: number;
	initializer_range: number;
}

const options: OptionsOf<CLIPVisionConfig> = {
	hidden_size: { kind: 'number', default: 768 },
	intermediate_size: { kind: 'number', default: 3072 },
	projection_dim: { kind: 'number', default: 512 },
	num_hidden_layers: { kind: 'number', default: 12 },
	num_attention_heads: { kind: 'number', default: 12 },
	num_channels: { kind: 'number', default: 3 },
	image_size: { kind: 'number', default: 224 },
	patch_size: { kind: 'number', default: 32 },
	hidden_act: { kind: 'only', values: textActivationNames, default: 'quick_gelu' },
	layer_norm_eps: { kind: 'number', default: 1e-5 },
	initializer_range: { kind: 'number', default: 0.02 },
	initializer_factor: { kind: 'number', default: 1 },
};

const ignored = ['attention_dropout', 'dropout'];
const className = 'CLIPVisionModelWithProjection';

/** Checks a `config.json` of CLIPVisionModelWithProjection and fills defaults in. */
export function readCLIPVisionConfig(raw: unknown, place: string = className): CLIPVisionConfig {
	const config = readTransformersConfig<CLIPVisionConfig>(className, raw, options, ignored, place);
	checkHeads(config, place);
	return config;
}

/**
 * pixel_values [B, num_channels, image_size, image_size] to image_embeds [B, projection_dim] and last_hidden_state [B, 1 + N, hidden_size] (the class
 * token first, before `post_layernorm`). Rows and columns of pixels beyond the last whole patch are not seen. One layer per block.
 */
export function clipVisionChain(config: CLIPVisionConfig): Chain {
	const { hidden_size: width, image_size: size, patch_size: P, num_channels: channels, initializer_factor: factor } = config;
	const side = Math.floor(size / P);
	const embeddings: Layer = {
		name: 'vision_model.embeddings',
		build(ctx, live) {
			const { g } = ctx;
			const x = live.get('pixel_values');
			const [batch] = x.shape as [number];
			const whole = side * P === size ? x : g.slice(x, [0, 0], [side * P, side * P], [2, 3]);
			const weightInit = { kind: 'normal', std: config.initializer_range * factor } as const;
			const patches_BNC = ctx.at('patch_embedding', (c) => patchEmbed(c, whole, width, P, { bias: false, weightInit }));
			const own = ctx.param('class_embedding', [width], { kind: 'normal', std: factor / Math.sqrt(width) });
			const tokens = g.concat([g.expand(g.reshape(own, [1, 1, width]), [batch, 1, width]), patches_BNC], 1);
			const places = ctx.param('position_embedding.weight', [1 + side * side, width], weightInit);
			live.set('embedded', g.add(tokens, places));
		},
	};
	// So misspelt in transformers, and with it in every checkpoint.
	const before: Layer = {
		name: 'vision_model.pre_layrnorm',
		build: (ctx, live) => live.set('last_hidden_state', layerNorm(ctx, live.get('embedded'), config.layer_norm_eps)),
	};
	const blocks = Array.from(
		{ length: config.num_hidden_layers },
		(_, i): Layer => ({
			name: `vision_model.encoder.layers.${i}`,
			build: (ctx, live) => live.set('last_hidden_state', clipBlock(ctx, live.get('last_hidden_state'), config)),
		}),
	);
	const project: Layer = {
		name: 'visual_projection',
		path: '',
		build(ctx, live) {
			const { g } = ctx;
			const states = live.get('last_hidden_state');
			const own = g.reshape(g.slice(states, [0], [1], [1]), [-1, width]);
			const pooled = ctx.at('vision_model.post_layernorm', (c) => layerNorm(c, own, config.layer_norm_eps));
			const weightInit = { kind: 'normal', std: factor / Math.sqrt(width) } as const;
			live.set(
				'image_embeds',
				ctx.at('visual_projection', (c) => linear(c, pooled, config.projection_dim, { bias: false, weightInit })),
			);
		},
	};
	return {
		name: className,
		inputs: { pixel_values: { dtype: 'float32', shape: [channels, size, size] } },
		layers: [embeddings, before, ...blocks, project],
		outputs: ['image_embeds', 'last_hidden_state'],
	};
}
