/** @file What UNet2DConditionModel and ControlNetModel share: the options of blocks, and the way down and through the middle. */
import { DiffusionPipeError } from '../core/errors.ts';
import { type ActivationName, activationNames } from '../nn/activation.ts';
import type { DownsamplePadding } from '../nn/resample.ts';
import { type OptionsOf, perBlock } from './config.ts';
import { type BlockType, blockTypes, downBlockTypes, selfAttention } from './unet-block-types.ts';
import { classEmbedding, type EmbeddingPlan } from './unet-embedding.ts';
import { type BlockAttention, downBlock, midBlock, type Path, type PathStyle } from './unet-path.ts';

/** Numbers of transformer blocks: for all, per block, or per attention of each block. */
export type Depths = number | readonly (number | readonly number[])[];

/** Options with the same meaning in both models. */
export interface ConditionEncoderConfig {
	in_channels: number;
	flip_sin_to_cos: boolean;
	freq_shift: number;
	down_block_types: readonly string[];
	mid_block_type: 'UNetMidBlock2DCrossAttn' | 'UNetMidBlock2D' | null;
	only_cross_attention: boolean | readonly boolean[];
	block_out_channels: readonly number[];
	layers_per_block: number | readonly number[];
	downsample_padding: DownsamplePadding;
	mid_block_scale_factor: number;
	act_fn: ActivationName;
	norm_num_groups: number;
	norm_eps: number;
	cross_attention_dim: number | readonly number[];
	transformer_layers_per_block: Depths;
	attention_head_dim: number | readonly number[];
	num_attention_heads: number | readonly number[] | null;
	use_linear_projection: boolean;
	class_embed_type: string | null;
	num_class_embeds: number | null;
	projection_class_embeddings_input_dim: number | null;
	addition_embed_type: 'text_time' | null;
	addition_time_embed_dim: number | null;
	addition_embed_type_num_heads: number;
	upcast_attention: boolean;
	resnet_time_scale_shift: 'default' | 'scale_shift';
}

export const conditionEncoderOptions: OptionsOf<ConditionEncoderConfig> = {
	in_channels: { kind: 'number', default: 4 },
	flip_sin_to_cos: { kind: 'boolean', default: true },
	freq_shift: { kind: 'number', default: 0 },
	down_block_types: {
		kind: 'strings',
		default: ['CrossAttnDownBlock2D', 'CrossAttnDownBlock2D', 'CrossAttnDownBlock2D', 'DownBlock2D'],
	},
	mid_block_type: {
		kind: 'only',
		values: ['UNetMidBlock2DCrossAttn', 'UNetMidBlock2D', null],
		default: 'UNetMidBlock2DCrossAttn',
		keepNull: true,
	},
	only_cross_attention: { kind: 'boolean or booleans', default: false },
	block_out_channels: { kind: 'numbers', default: [320, 640, 1280, 1280] },
	layers_per_block: { kind: 'number or numbers', default: 2 },
	downsample_padding: { kind: 'only', values: [0, 1], default: 1 },
	mid_block_scale_factor: { kind: 'number', default: 1 },
	act_fn: { kind: 'only', values: activationNames, default: 'silu' },
	norm_num_groups: { kind: 'number', default: 32 },
	norm_eps: { kind: 'number', default: 1e-5 },
	cross_attention_dim: { kind: 'number or numbers', default: 1280 },
	transformer_layers_per_block: { kind: 'any', default: 1 },
	attention_head_dim: { kind: 'number or numbers', default: 8 },
	num_attention_heads: { kind: 'number or numbers', default: null },
	use_linear_projection: { kind: 'boolean', default: false },
	class_embed_type: { kind: 'only', values: [null, 'timestep', 'identity', 'projection', 'simple_projection'], default: null },
	num_class_embeds: { kind: 'number', default: null },
	projection_class_embeddings_input_dim: { kind: 'number', default: null },
	addition_embed_type: { kind: 'only', values: [null, 'text_time'], default: null },
	addition_time_embed_dim: { kind: 'number', default: null },
	// Read by attention pooling only, which no supported addition_embed_type has.
	addition_embed_type_num_heads: { kind: 'any', default: 64 },
	// Attention runs in float32 either way.
	upcast_attention: { kind: 'boolean', default: false },
	resnet_time_scale_shift: { kind: 'only', values: ['default', 'scale_shift'], default: 'default' },
};

/** The options as one entry per block, down to up. */
export interface EncoderBlocks {
	readonly channels: readonly number[];
	readonly layers: readonly number[];
	/** Number of heads, for `self` attention their width: the config's `attention_head_dim` means both. */
	readonly heads: readonly number[];
	readonly onlyCross: readonly boolean[];
	readonly depths: readonly (number | readonly number[])[];
	/** Width of the text context, the same in every block. */
	readonly contextWidth: number;
}

/** Spreads the per-block options. Throws a config error naming one that does not fit. */
export function encoderBlocks(config: ConditionEncoderConfig, place: string): EncoderBlocks {
	const channels = config.block_out_channels;
	const count = channels.length;
	const widths = perBlock('cross_attention_dim', config.cross_attention_dim, count, place);
	if (count === 0 || widths.some((w) => w !== widths[0])) {
		throw new DiffusionPipeError('config', 'option cross_attention_dim cannot be used', {
			place,
			expected: 'at least one block, and one width for all, since all read the same encoder_hidden_states',
			found: JSON.stringify(config.cross_attention_dim),
		});
	}
	return {
		channels,
		layers: perBlock('layers_per_block', config.layers_per_block, count, place),
		heads: perBlock('attention_head_dim', config.num_attention_heads ?? config.attention_head_dim, count, place),
		onlyCross: perBlock('only_cross_attention', config.only_cross_attention, count, place),
		depths: depthsPerBlock('transformer_layers_per_block', config.transformer_layers_per_block, count, place),
		contextWidth: widths[0]!,
	};
}

/** `transformer_layers_per_block` for each of `count` blocks. Throws a config error naming `option`. */
export function depthsPerBlock(option: string, value: unknown, count: number, place: string): readonly (number | readonly number[])[] {
	const whole = (n: unknown): n is number => Number.isInteger(n) && (n as number) >= 0;
	if (whole(value)) return new Array<number>(count).fill(value);
	const fits = (v: unknown) => whole(v) || (Array.isArray(v) && v.every(whole));
	if (Array.isArray(value) && value.length === count && value.every(fits)) return value as readonly (number | readonly number[])[];
	throw new DiffusionPipeError('config', `option ${option} does not fit the blocks`, {
		place,
		expected: `a whole number, or ${count} of them or of lists of them`,
		found: JSON.stringify(value),
	});
}

/** Attentions of a block with `layers` residual blocks, of `type`. */
export function blockAttentions(
	config: ConditionEncoderConfig,
	type: BlockType,
	at: { readonly channels: number; readonly layers: number; readonly heads: number; readonly onlyCross: boolean },
	depth: number | readonly number[],
	place: string,
): readonly BlockAttention[] {
	return Array.from({ length: at.layers }, (_, j): BlockAttention => {
		if (type.attention === 'none') return { kind: 'none' };
		if (type.attention === 'self') return selfAttention(at.channels, at.heads, config.norm_num_groups, place);
		const blocks = typeof depth === 'number' ? depth : depth.length === at.layers ? depth[j] : undefined;
		if (blocks === undefined || !Number.isInteger(at.heads) || !Number.isInteger(at.channels / at.heads)) {
			throw new DiffusionPipeError('config', 'options of a block with cross-attention do not fit', {
				place,
				expected: `${at.layers} depths in transformer_layers_per_block; in attention_head_dim a number of heads that divides ${at.channels}`,
				found: `${JSON.stringify(depth)} and ${at.heads}`,
			});
		}
		return { kind: 'cross', heads: at.heads, depth: blocks, linear: config.use_linear_projection, onlyCross: at.onlyCross };
	});
}

/** What all blocks share; `context` is the live name of the text states. */
export function encoderStyle(config: ConditionEncoderConfig, context: string): PathStyle {
	return {
		groups: config.norm_num_groups,
		epsilon: config.norm_eps,
		activation: config.act_fn,
		scaleShift: config.resnet_time_scale_shift === 'scale_shift',
		downsamplePadding: config.downsample_padding,
		emb: 'emb',
		context,
	};
}

/** Lays all down blocks and the mid block, if there is one. */
export function layConditionEncoder(path: Path, config: ConditionEncoderConfig, blocks: EncoderBlocks, place: string): void {
	const count = blocks.channels.length;
	const types = blockTypes('down_block_types', config.down_block_types, downBlockTypes, count, place);
	const shape = (i: number) => ({
		channels: blocks.channels[i]!,
		layers: blocks.layers[i]!,
		heads: blocks.heads[i]!,
		onlyCross: blocks.onlyCross[i]!,
	});
	types.forEach((type, i) => {
		downBlock(path, {
			name: `down_blocks.${i}`,
			channels: blocks.channels[i]!,
			attentions: blockAttentions(config, type, shape(i), blocks.depths[i]!, place),
			resampling: i === count - 1 ? undefined : type.resampling === 'chosen' ? 'conv' : type.resampling,
		});
	});
	if (config.mid_block_type === null) return;
	const cross: BlockType = { attention: 'cross', resampling: undefined };
	const mid = { ...shape(count - 1), layers: 1, onlyCross: false };
	const attentions =
		config.mid_block_type === 'UNetMidBlock2D' ? [] : blockAttentions(config, cross, mid, blocks.depths[count - 1]!, place);
	midBlock(path, 'mid_block', attentions, config.mid_block_scale_factor);
}

/**
 * The conditioning vector of `config`. `ids`: how many numbers `time_ids` has, from which the width of `text_embeds` follows. Throws a config error
 * naming an option that is missing.
 */
export function conditionEmbedding(
	config: ConditionEncoderConfig,
	extra: { readonly width?: number | null; readonly condWidth?: number | null; readonly ids: number },
	place: string,
): EmbeddingPlan {
	const sinusoidWidth = config.block_out_channels[0]!;
	return {
		width: extra.width ?? 4 * sinusoidWidth,
		sinusoidWidth,
		flipSinToCos: config.flip_sin_to_cos,
		freqShift: config.freq_shift,
		activation: config.act_fn,
		outputActivation: config.act_fn,
		condWidth: extra.condWidth ?? undefined,
		classes: classEmbedding(config.class_embed_type, config.num_class_embeds, config.projection_class_embeddings_input_dim, place),
		textTime: config.addition_embed_type === null ? undefined : textTime(config, extra.ids, place),
	};
}

function textTime(config: ConditionEncoderConfig, ids: number, place: string): NonNullable<EmbeddingPlan['textTime']> {
	const idWidth = config.addition_time_embed_dim;
	const all = config.projection_class_embeddings_input_dim;
	if (idWidth === null || all === null || all - ids * idWidth < 1) {
		throw new DiffusionPipeError('config', 'options of addition_embed_type text_time do not fit', {
			place,
			expected: `addition_time_embed_dim, and a projection_class_embeddings_input_dim above ${ids} times that`,
			found: `${idWidth} and ${all}`,
		});
	}
	return { ids, idWidth, textWidth: all - ids * idWidth };
}
