/**
 * @file ControlNetModel: a copy of a U-Net's encoder that turns an image of conditions into residuals for its skips (Zhang et al., 2302.05543), names
 * and config as diffusers. Legend: B batch, H and W latent rows and columns, S text tokens, K text width.
 */
import type { Value } from '../graph/types.ts';
import type { Chain, Layer } from '../nn/chain.ts';
import type { LayerContext } from '../nn/context.ts';
import { conv2d } from '../nn/conv.ts';
import { silu } from '../nn/embeddings.ts';
import { type OptionsOf, readConfig } from './config.ts';
import { type SizeOptions, sampleSize } from './sample-size.ts';
import { midResidualName, skipResidualName } from './unet-condition.ts';
import { embeddingInputs, embeddingLayer } from './unet-embedding.ts';
import {
	type ConditionEncoderConfig,
	conditionEmbedding,
	conditionEncoderOptions,
	encoderBlocks,
	encoderStyle,
	layConditionEncoder,
} from './unet-encoder.ts';
import { lay, newPath } from './unet-path.ts';

export interface ControlNetConfig extends ConditionEncoderConfig {
	conditioning_channels: number;
	controlnet_conditioning_channel_order: 'rgb' | 'bgr';
	conditioning_embedding_out_channels: readonly number[];
	global_pool_conditions: boolean;
	encoder_hid_dim: null;
	encoder_hid_dim_type: null;
}

const options: OptionsOf<ControlNetConfig> = {
	...conditionEncoderOptions,
	class_embed_type: { kind: 'only', values: [null, 'timestep', 'identity', 'projection'], default: null },
	conditioning_channels: { kind: 'number', default: 3 },
	controlnet_conditioning_channel_order: { kind: 'only', values: ['rgb', 'bgr'], default: 'rgb' },
	conditioning_embedding_out_channels: { kind: 'numbers', default: [16, 32, 96, 256] },
	global_pool_conditions: { kind: 'boolean', default: false },
	encoder_hid_dim: { kind: 'only', values: [null], default: null },
	encoder_hid_dim_type: { kind: 'only', values: [null], default: null },
};

const className = 'ControlNetModel';

/** Checks a `config.json` of ControlNetModel and fills defaults in. */
export function readControlNetConfig(raw: unknown, place?: string): ControlNetConfig {
	return readConfig<ControlNetConfig>(className, raw, options, place);
}

export interface ControlNetOptions extends SizeOptions {
	/** S. Default 77, what CLIP gives. */
	readonly tokens?: number;
	/** Numbers in `time_ids` of text_time models. Default 6. */
	readonly ids?: number;
	/** Every residual is multiplied by it. Default 1. */
	readonly conditioningScale?: number;
}

const zeros = { weightInit: { kind: 'zeros' }, biasInit: { kind: 'zeros' } } as const;

/**
 * sample [B, in_channels, H, W], timestep [B] (float32), encoder_hidden_states [B, S, K], controlnet_cond [B, conditioning_channels, f H, f W] (f is 2
 * for each but the first of conditioning_embedding_out_channels) and, as configured, class_labels, text_embeds and time_ids to residuals, each under the
 * name of the U-Net input that takes it: `down_block_additional_residual_<i>` and `mid_block_additional_residual`. The config says no sample size:
 * `options` must. Throws a config error for options that do not fit.
 */
export function controlNetChain(config: ControlNetConfig, options: ControlNetOptions): Chain {
	const place = className;
	const { tokens = 77, ids = 6, conditioningScale = 1 } = options;
	const { height, width } = sampleSize(null, options, place);
	const blocks = encoderBlocks(config, place);
	const first = blocks.channels[0]!;
	const embedding = conditionEmbedding(config, { ids }, place);
	const path = newPath(encoderStyle(config, 'encoder_hidden_states'), 'sample', { channels: config.in_channels, height, width });
	path.layers.push(embeddingLayer(embedding), conditionLayer(config));
	lay(
		path,
		'conv_in',
		{ channels: first, height, width },
		(ctx, x, live) => ctx.g.add(conv2d(ctx, x, first, 3, { padding: 1 }), live.get('condition')),
		{ keep: true },
	);
	layConditionEncoder(path, config, blocks, place);
	const residual = (name: string, from: string, channels: number, to: string): Layer => ({
		name,
		build: (ctx, live) => live.set(to, finish(ctx, conv2d(ctx, live.get(from), channels, 1, zeros), config, conditioningScale)),
	});
	const skips = path.skips.map((skip, i) => residual(`controlnet_down_blocks.${i}`, skip.name, skip.channels, skipResidualName(i)));
	const layers = [...path.layers, ...skips, residual('controlnet_mid_block', path.at, path.map.channels, midResidualName)];
	const factor = 2 ** (config.conditioning_embedding_out_channels.length - 1);
	return {
		name: className,
		inputs: {
			sample: { dtype: 'float32', shape: [config.in_channels, height, width] },
			...embeddingInputs(embedding),
			encoder_hidden_states: { dtype: 'float32', shape: [tokens, blocks.contextWidth] },
			controlnet_cond: { dtype: 'float32', shape: [config.conditioning_channels, factor * height, factor * width] },
		},
		layers,
		outputs: [...path.skips.map((_, i) => skipResidualName(i)), midResidualName],
	};
}

/** `controlnet_cond_embedding`: 3x3 convolutions with SiLU between them, halving once per width, to the width of the U-Net's first block. */
function conditionLayer(config: ControlNetConfig): Layer {
	const widths = config.conditioning_embedding_out_channels;
	return {
		name: 'controlnet_cond_embedding',
		build(ctx, live) {
			const { g } = ctx;
			const image = live.get('controlnet_cond');
			const conv = (name: string, x: Value, out: number, stride = 1) => ctx.at(name, (c) => conv2d(c, x, out, 3, { stride, padding: 1 }));
			const rgb =
				config.controlnet_conditioning_channel_order === 'bgr'
					? g.concat(g.split(image, new Array<number>(image.shape[1]!).fill(1), 1).toReversed(), 1)
					: image;
			let x = silu(g, conv('conv_in', rgb, widths[0]!));
			widths.slice(1).forEach((out, i) => {
				x = silu(g, conv(`blocks.${2 * i}`, x, widths[i]!));
				x = silu(g, conv(`blocks.${2 * i + 1}`, x, out, 2));
			});
			live.set(
				'condition',
				ctx.at('conv_out', (c) => conv2d(c, x, config.block_out_channels[0]!, 3, { padding: 1, ...zeros })),
			);
		},
	};
}

function finish({ g }: LayerContext, x: Value, config: ControlNetConfig, scale: number): Value {
	const scaled = scale === 1 ? x : g.mul(x, scale);
	return config.global_pool_conditions ? g.reduceMean(scaled, [2, 3]) : scaled;
}
