/**
 * @file UNet2DModel: the U-Net of unconditional and class-conditional diffusion (Ho et al., 2006.11239; Dhariwal & Nichol, 2105.05233), names and
 * config as diffusers. Legend: B batch, H and W rows and columns.
 */
import { type ActivationName, activationNames } from '../nn/activation.ts';
import type { Chain } from '../nn/chain.ts';
import type { DownsamplePadding } from '../nn/resample.ts';
import { type OptionsOf, readConfig } from './config.ts';
import { type ConfiguredSize, type SizeOptions, sampleSize } from './sample-size.ts';
import { type BlockType, blockTypes, downBlockTypes, selfAttention, upBlockTypes } from './unet-block-types.ts';
import { classEmbedding, type EmbeddingPlan, embeddingInputs, embeddingLayer } from './unet-embedding.ts';
import { type BlockAttention, downBlock, layInput, layOutput, midBlock, newPath, type Resampling, upBlock } from './unet-path.ts';

export interface UNetConfig {
	sample_size: ConfiguredSize;
	in_channels: number;
	out_channels: number;
	center_input_sample: boolean;
	time_embedding_type: 'positional';
	time_embedding_dim: number | null;
	freq_shift: number;
	flip_sin_to_cos: boolean;
	down_block_types: readonly string[];
	mid_block_type: 'UNetMidBlock2D' | null;
	up_block_types: readonly string[];
	block_out_channels: readonly number[];
	layers_per_block: number;
	mid_block_scale_factor: number;
	downsample_padding: DownsamplePadding;
	downsample_type: 'conv' | 'resnet';
	upsample_type: 'conv' | 'resnet';
	dropout: number;
	act_fn: ActivationName;
	attention_head_dim: number | null;
	norm_num_groups: number;
	attn_norm_num_groups: number | null;
	norm_eps: number;
	resnet_time_scale_shift: 'default' | 'scale_shift';
	add_attention: boolean;
	class_embed_type: 'timestep' | 'identity' | null;
	num_class_embeds: number | null;
	num_train_timesteps: number | null;
}

const options: OptionsOf<UNetConfig> = {
	sample_size: { kind: 'number or numbers', default: null },
	in_channels: { kind: 'number', default: 3 },
	out_channels: { kind: 'number', default: 3 },
	center_input_sample: { kind: 'boolean', default: false },
	time_embedding_type: { kind: 'only', values: ['positional'], default: 'positional' },
	time_embedding_dim: { kind: 'number', default: null },
	freq_shift: { kind: 'number', default: 0 },
	flip_sin_to_cos: { kind: 'boolean', default: true },
	down_block_types: { kind: 'strings', default: ['DownBlock2D', 'AttnDownBlock2D', 'AttnDownBlock2D', 'AttnDownBlock2D'] },
	mid_block_type: { kind: 'only', values: ['UNetMidBlock2D', null], default: 'UNetMidBlock2D', keepNull: true },
	up_block_types: { kind: 'strings', default: ['AttnUpBlock2D', 'AttnUpBlock2D', 'AttnUpBlock2D', 'UpBlock2D'] },
	block_out_channels: { kind: 'numbers', default: [224, 448, 672, 896] },
	layers_per_block: { kind: 'number', default: 2 },
	mid_block_scale_factor: { kind: 'number', default: 1 },
	downsample_padding: { kind: 'only', values: [0, 1], default: 1 },
	downsample_type: { kind: 'only', values: ['conv', 'resnet'], default: 'conv' },
	upsample_type: { kind: 'only', values: ['conv', 'resnet'], default: 'conv' },
	dropout: { kind: 'only', values: [0], default: 0 },
	act_fn: { kind: 'only', values: activationNames, default: 'silu' },
	// Null means one head.
	attention_head_dim: { kind: 'number', default: 8, keepNull: true },
	norm_num_groups: { kind: 'number', default: 32 },
	attn_norm_num_groups: { kind: 'number', default: null },
	norm_eps: { kind: 'number', default: 1e-5 },
	resnet_time_scale_shift: { kind: 'only', values: ['default', 'scale_shift'], default: 'default' },
	add_attention: { kind: 'boolean', default: true },
	class_embed_type: { kind: 'only', values: [null, 'timestep', 'identity'], default: null },
	num_class_embeds: { kind: 'number', default: null },
	// Read by learned time embeddings only.
	num_train_timesteps: { kind: 'any', default: null },
};

const className = 'UNet2DModel';

/** Checks a `config.json` of UNet2DModel and fills defaults in. */
export function readUNetConfig(raw: unknown, place?: string): UNetConfig {
	return readConfig<UNetConfig>(className, raw, options, place);
}

const withoutCross = (types: Readonly<Record<string, BlockType>>) =>
	Object.fromEntries(Object.entries(types).filter(([, type]) => type.attention !== 'cross'));

/**
 * sample [B, in_channels, H, W], timestep [B] (float32) and, as configured, class_labels [B] (int64, below num_class_embeds) to sample
 * [B, out_channels, H, W]. Throws a config error for options that do not fit.
 */
export function unetChain(config: UNetConfig, options: SizeOptions = {}): Chain {
	const place = className;
	const { block_out_channels: channels, in_channels, norm_num_groups: groups, layers_per_block: layers } = config;
	const count = channels.length;
	const { height, width } = sampleSize(config.sample_size, options, place);
	const embedding: EmbeddingPlan = {
		width: config.time_embedding_dim ?? 4 * channels[0]!,
		sinusoidWidth: channels[0]!,
		flipSinToCos: config.flip_sin_to_cos,
		freqShift: config.freq_shift,
		activation: 'silu',
		outputActivation: config.act_fn,
		classes: classEmbedding(config.class_embed_type, config.num_class_embeds, null, place),
	};
	const style = {
		groups,
		epsilon: config.norm_eps,
		activation: config.act_fn,
		scaleShift: config.resnet_time_scale_shift === 'scale_shift',
		downsamplePadding: config.downsample_padding,
		emb: 'emb',
		context: '',
	};
	const plan = (name: string, type: BlockType, k: number, depth: number, chosen: Resampling, last: boolean) => {
		const none: BlockAttention = { kind: 'none' };
		const attention = type.attention === 'self' ? selfAttention(channels[k]!, config.attention_head_dim, groups, place) : none;
		const resampling = last ? undefined : type.resampling === 'chosen' ? chosen : type.resampling;
		return { name, channels: channels[k]!, attentions: new Array<BlockAttention>(depth).fill(attention), resampling };
	};
	const down = blockTypes('down_block_types', config.down_block_types, withoutCross(downBlockTypes), count, place);
	const up = blockTypes('up_block_types', config.up_block_types, withoutCross(upBlockTypes), count, place);
	const path = newPath(style, 'sample', { channels: in_channels, height, width });
	path.layers.push(embeddingLayer(embedding));
	layInput(path, channels[0]!, { center: config.center_input_sample, keep: true });
	down.forEach((type, i) => {
		downBlock(path, plan(`down_blocks.${i}`, type, i, layers, config.downsample_type, i === count - 1));
	});
	if (config.mid_block_type !== null) {
		const normed = config.attn_norm_num_groups ?? (style.scaleShift ? null : groups);
		const attention: BlockAttention = config.add_attention
			? selfAttention(channels[count - 1]!, config.attention_head_dim, normed, place)
			: { kind: 'none' };
		midBlock(path, 'mid_block', [attention], config.mid_block_scale_factor);
	}
	up.forEach((type, i) => {
		upBlock(path, plan(`up_blocks.${i}`, type, count - 1 - i, layers + 1, config.upsample_type, i === count - 1));
	});
	layOutput(path, config.out_channels, 'sample', 'silu');
	return {
		name: className,
		inputs: { sample: { dtype: 'float32', shape: [in_channels, height, width] }, ...embeddingInputs(embedding) },
		layers: path.layers,
		outputs: ['sample'],
	};
}
