/**
 * @file UNet2DConditionModel: the text-conditioned U-Net of Stable Diffusion 1, 2 and XL (Rombach et al., 2112.10752; Podell et al., 2307.01952),
 * names and config as diffusers. Legend: B batch, C channels, H and W latent rows and columns, S text tokens, K text width.
 */
import { DiffusionPipeError } from '../core/errors.ts';
import type { Chain, ChainInput } from '../nn/chain.ts';
import { linear } from '../nn/linear.ts';
import { type OptionsOf, readConfig } from './config.ts';
import { type ConfiguredSize, type SizeOptions, sampleSize } from './sample-size.ts';
import { blockTypes, upBlockTypes } from './unet-block-types.ts';
import { embeddingInputs, embeddingLayer } from './unet-embedding.ts';
import {
	blockAttentions,
	type ConditionEncoderConfig,
	conditionEmbedding,
	conditionEncoderOptions,
	type Depths,
	depthsPerBlock,
	type EncoderBlocks,
	encoderBlocks,
	encoderStyle,
	layConditionEncoder,
} from './unet-encoder.ts';
import { type FeatureMap, lay, layInput, layOutput, newPath, type Path, type SkipResidual, upBlock } from './unet-path.ts';

export interface UNetConditionConfig extends ConditionEncoderConfig {
	sample_size: ConfiguredSize;
	out_channels: number;
	center_input_sample: boolean;
	up_block_types: readonly string[];
	dropout: number;
	reverse_transformer_layers_per_block: Depths | null;
	encoder_hid_dim: number | null;
	encoder_hid_dim_type: 'text_proj' | null;
	dual_cross_attention: boolean;
	resnet_skip_time_act: boolean;
	resnet_out_scale_factor: number;
	time_embedding_type: 'positional';
	time_embedding_dim: number | null;
	time_embedding_act_fn: null;
	timestep_post_act: null;
	time_cond_proj_dim: number | null;
	conv_in_kernel: number;
	conv_out_kernel: number;
	attention_type: 'default';
	class_embeddings_concat: boolean;
	mid_block_only_cross_attention: boolean | null;
	cross_attention_norm: null;
}

const options: OptionsOf<UNetConditionConfig> = {
	...conditionEncoderOptions,
	num_attention_heads: { kind: 'only', values: [null], default: null },
	sample_size: { kind: 'number or numbers', default: null },
	out_channels: { kind: 'number', default: 4 },
	center_input_sample: { kind: 'boolean', default: false },
	up_block_types: { kind: 'strings', default: ['UpBlock2D', 'CrossAttnUpBlock2D', 'CrossAttnUpBlock2D', 'CrossAttnUpBlock2D'] },
	dropout: { kind: 'only', values: [0], default: 0 },
	reverse_transformer_layers_per_block: { kind: 'any', default: null },
	encoder_hid_dim: { kind: 'number', default: null },
	encoder_hid_dim_type: { kind: 'only', values: [null, 'text_proj'], default: null },
	dual_cross_attention: { kind: 'only', values: [false], default: false },
	resnet_skip_time_act: { kind: 'only', values: [false], default: false },
	resnet_out_scale_factor: { kind: 'only', values: [1], default: 1 },
	time_embedding_type: { kind: 'only', values: ['positional'], default: 'positional' },
	time_embedding_dim: { kind: 'number', default: null },
	time_embedding_act_fn: { kind: 'only', values: [null], default: null },
	timestep_post_act: { kind: 'only', values: [null], default: null },
	time_cond_proj_dim: { kind: 'number', default: null },
	conv_in_kernel: { kind: 'number', default: 3 },
	conv_out_kernel: { kind: 'number', default: 3 },
	attention_type: { kind: 'only', values: ['default'], default: 'default' },
	class_embeddings_concat: { kind: 'only', values: [false], default: false },
	// Read by mid blocks of another type only.
	mid_block_only_cross_attention: { kind: 'any', default: null },
	cross_attention_norm: { kind: 'only', values: [null], default: null },
};

const className = 'UNet2DConditionModel';

/** Checks a `config.json` of UNet2DConditionModel and fills defaults in. */
export function readUNetConditionConfig(raw: unknown, place?: string): UNetConditionConfig {
	const config = readConfig<UNetConditionConfig>(className, raw, options, place);
	if (config.encoder_hid_dim_type !== null && config.encoder_hid_dim === null) {
		throw new DiffusionPipeError('config', 'option encoder_hid_dim is missing', {
			place: place ?? className,
			expected: `a number, the width of encoder_hidden_states, for encoder_hid_dim_type ${config.encoder_hid_dim_type}`,
		});
	}
	return config;
}

export interface UNetConditionOptions extends SizeOptions {
	/** S. Default 77, what CLIP gives. */
	readonly tokens?: number;
	/** Numbers in `time_ids` of text_time models. Default 6; the SDXL refiner has 5. */
	readonly ids?: number;
	/**
	 * Makes inputs `down_block_additional_residual_<i>`, one per skip, and `mid_block_additional_residual` for the residuals of a ControlNet: whole maps,
	 * or `pooled` to [C, 1, 1] as ControlNets with `global_pool_conditions` give them.
	 */
	readonly residuals?: 'maps' | 'pooled';
}

/**
 * sample [B, in_channels, H, W], timestep [B] (float32), encoder_hidden_states [B, S, K] and, as configured, timestep_cond, class_labels, text_embeds
 * and time_ids to sample [B, out_channels, H, W]. Sizes that do not halve evenly are allowed. Throws a config error for options that do not fit.
 */
export function unetConditionChain(config: UNetConditionConfig, options: UNetConditionOptions = {}): Chain {
	const place = className;
	const { tokens = 77, ids = 6, residuals } = options;
	const { height, width } = sampleSize(config.sample_size, options, place);
	const blocks = encoderBlocks(config, place);
	const { channels } = blocks;
	const embedding = conditionEmbedding(config, { width: config.time_embedding_dim, condWidth: config.time_cond_proj_dim, ids }, place);
	const projected = config.encoder_hid_dim !== null;
	const path = newPath(encoderStyle(config, projected ? 'context' : 'encoder_hidden_states'), 'sample', {
		channels: config.in_channels,
		height,
		width,
	});
	path.layers.push(embeddingLayer(embedding));
	if (projected) {
		path.layers.push({
			name: 'encoder_hid_proj',
			build: (ctx, live) => live.set('context', linear(ctx, live.get('encoder_hidden_states'), blocks.contextWidth)),
		});
	}
	layInput(path, channels[0]!, { kernel: config.conv_in_kernel, center: config.center_input_sample, keep: true });
	layConditionEncoder(path, config, blocks, place);
	const control = residuals ? layControl(path, residuals) : undefined;
	layUp(path, config, blocks, control && ((live, i) => live.get(skipResidualName(i))), place);
	layOutput(path, config.out_channels, 'sample', config.act_fn, { kernel: config.conv_out_kernel });
	return {
		name: className,
		inputs: {
			sample: { dtype: 'float32', shape: [config.in_channels, height, width] },
			...embeddingInputs(embedding),
			encoder_hidden_states: { dtype: 'float32', shape: [tokens, config.encoder_hid_dim ?? blocks.contextWidth] },
			...control,
		},
		layers: path.layers,
		outputs: ['sample'],
	};
}

/** Lays the sum with the mid block's control residual, and gives the inputs of all of them. */
function layControl(path: Path, residuals: 'maps' | 'pooled'): Record<string, ChainInput> {
	const input = ({ channels, height, width }: FeatureMap): ChainInput => ({
		dtype: 'float32',
		shape: residuals === 'pooled' ? [channels, 1, 1] : [channels, height, width],
	});
	lay(path, midResidualName, path.map, (ctx, x, live) => ctx.g.add(x, live.get(midResidualName)));
	return {
		...Object.fromEntries(path.skips.map((skip, i) => [skipResidualName(i), input(skip)])),
		[midResidualName]: input(path.map),
	};
}

/** Lays all up blocks: the down blocks' options from last to first, one residual block more in each. */
function layUp(path: Path, config: UNetConditionConfig, blocks: EncoderBlocks, residual: SkipResidual | undefined, place: string): void {
	const count = blocks.channels.length;
	const reversed = 'reverse_transformer_layers_per_block';
	const depths = config[reversed] === null ? blocks.depths.toReversed() : depthsPerBlock(reversed, config[reversed], count, place);
	blockTypes('up_block_types', config.up_block_types, upBlockTypes, count, place).forEach((type, i) => {
		const k = count - 1 - i;
		const at = { channels: blocks.channels[k]!, layers: blocks.layers[k]! + 1, heads: blocks.heads[k]!, onlyCross: blocks.onlyCross[k]! };
		const attentions = blockAttentions(config, type, at, depths[i]!, place);
		const resampling = i === count - 1 ? undefined : type.resampling === 'chosen' ? 'conv' : type.resampling;
		upBlock(path, { name: `up_blocks.${i}`, channels: at.channels, attentions, resampling }, residual);
	});
}

/** Chain input for the control residual of skip `index`, counted from `conv_in` on. */
export const skipResidualName = (index: number): string => `down_block_additional_residual_${index}`;

/** Chain input for the control residual of the mid block. */
export const midResidualName = 'mid_block_additional_residual';
