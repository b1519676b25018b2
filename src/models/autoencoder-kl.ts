/**
 * @file AutoencoderKL: the image autoencoder of latent diffusion (Rombach et al., 2112.10752), its encoder and decoder as chains of their own, names
 * and config as diffusers. Legend: B batch, H and W pixels, Z latent channels, f = 2 ** (blocks - 1) the factor between pixels and latents.
 */
import { type ActivationName, activationNames } from '../nn/activation.ts';
import type { Chain, Layer } from '../nn/chain.ts';
import { conv2d } from '../nn/conv.ts';
import { type OptionsOf, readConfig } from './config.ts';
import { type ConfiguredSize, type SizeOptions, sampleSize } from './sample-size.ts';
import { type BlockType, blockTypes, selfAttention } from './unet-block-types.ts';
import { type BlockAttention, downBlock, layInput, layOutput, midBlock, newPath, type PathStyle, upBlock } from './unet-path.ts';

export interface AutoencoderKLConfig {
	in_channels: number;
	out_channels: number;
	down_block_types: readonly string[];
	up_block_types: readonly string[];
	block_out_channels: readonly number[];
	layers_per_block: number;
	act_fn: ActivationName;
	latent_channels: number;
	norm_num_groups: number;
	sample_size: ConfiguredSize;
	/** Latents for the denoiser are (z - shift_factor) * scaling_factor. */
	scaling_factor: number;
	shift_factor: number | null;
	latents_mean: readonly number[] | null;
	latents_std: readonly number[] | null;
	force_upcast: boolean;
	use_quant_conv: boolean;
	use_post_quant_conv: boolean;
	mid_block_add_attention: boolean;
}

const options: OptionsOf<AutoencoderKLConfig> = {
	in_channels: { kind: 'number', default: 3 },
	out_channels: { kind: 'number', default: 3 },
	down_block_types: { kind: 'strings', default: ['DownEncoderBlock2D'] },
	up_block_types: { kind: 'strings', default: ['UpDecoderBlock2D'] },
	block_out_channels: { kind: 'numbers', default: [64] },
	layers_per_block: { kind: 'number', default: 1 },
	act_fn: { kind: 'only', values: activationNames, default: 'silu' },
	latent_channels: { kind: 'number', default: 4 },
	norm_num_groups: { kind: 'number', default: 32 },
	sample_size: { kind: 'number or numbers', default: 32 },
	scaling_factor: { kind: 'number', default: 0.18215 },
	shift_factor: { kind: 'number', default: null },
	latents_mean: { kind: 'numbers', default: null },
	latents_std: { kind: 'numbers', default: null },
	// Half precision is never used here.
	force_upcast: { kind: 'any', default: true },
	use_quant_conv: { kind: 'boolean', default: true },
	use_post_quant_conv: { kind: 'boolean', default: true },
	mid_block_add_attention: { kind: 'boolean', default: true },
};

const className = 'AutoencoderKL';
const plain: BlockType = { attention: 'none', resampling: 'conv' };
const none: BlockAttention = { kind: 'none' };

/** Checks a `config.json` of AutoencoderKL and fills defaults in. */
export function readAutoencoderKLConfig(raw: unknown, place?: string): AutoencoderKLConfig {
	return readConfig<AutoencoderKLConfig>(className, raw, options, place);
}

/** f: pixels along a side for each latent. */
export function latentFactor(config: AutoencoderKLConfig): number {
	return 2 ** (config.block_out_channels.length - 1);
}

function style(config: AutoencoderKLConfig): PathStyle {
	return {
		groups: config.norm_num_groups,
		epsilon: 1e-6,
		activation: config.act_fn,
		scaleShift: false,
		downsamplePadding: 0,
		emb: undefined,
		context: '',
	};
}

function midAttention(config: AutoencoderKLConfig): readonly BlockAttention[] {
	if (!config.mid_block_add_attention) return [none];
	return [selfAttention(config.block_out_channels.at(-1)!, null, config.norm_num_groups, className)];
}

/** x [B, in_channels, H, W] in [-1, 1] to the moments of the latents: mean and logvar [B, Z, H / f, W / f]; logvar is clipped to [-30, 20]. `options` are pixels. */
export function autoencoderKLEncoderChain(config: AutoencoderKLConfig, options: SizeOptions = {}): Chain {
	const { block_out_channels: channels, latent_channels: latents, in_channels } = config;
	const { height, width } = sampleSize(config.sample_size, options, className);
	const types = blockTypes('down_block_types', config.down_block_types, { DownEncoderBlock2D: plain }, channels.length, className);
	const path = newPath(style(config), 'x', { channels: in_channels, height, width });
	layInput(path, channels[0]!, { prefix: 'encoder.' });
	types.forEach((_, i) => {
		const attentions = new Array<BlockAttention>(config.layers_per_block).fill(none);
		const resampling = i === types.length - 1 ? undefined : 'conv';
		downBlock(path, { name: `encoder.down_blocks.${i}`, channels: channels[i]!, attentions, resampling }, false);
	});
	midBlock(path, 'encoder.mid_block', midAttention(config));
	layOutput(path, 2 * latents, 'moments', 'silu', { prefix: 'encoder.' });
	const moments: Layer = {
		name: 'quant_conv',
		build(ctx, live) {
			const both = live.get('moments');
			const last = config.use_quant_conv ? conv2d(ctx, both, 2 * latents, 1) : both;
			const [mean, logvar] = ctx.g.split(last, [latents, latents], 1);
			live.set('mean', mean!);
			live.set('logvar', ctx.g.clip(logvar!, -30, 20));
		},
	};
	return {
		name: `${className}.encoder`,
		inputs: { x: { dtype: 'float32', shape: [in_channels, height, width] } },
		layers: [...path.layers, moments],
		outputs: ['mean', 'logvar'],
	};
}

/** z [B, Z, H / f, W / f] to sample [B, out_channels, H, W]. `options` are latent rows and columns; without them the config's sample_size over f. */
export function autoencoderKLDecoderChain(config: AutoencoderKLConfig, options: SizeOptions = {}): Chain {
	const { block_out_channels: channels, latent_channels: latents } = config;
	const factor = latentFactor(config);
	const size = config.sample_size;
	const configured = typeof size === 'number' ? Math.floor(size / factor) : (size?.map((n) => Math.floor(n / factor)) ?? null);
	const { height, width } = sampleSize(configured, options, className);
	const types = blockTypes('up_block_types', config.up_block_types, { UpDecoderBlock2D: plain }, channels.length, className);
	const path = newPath(style(config), config.use_post_quant_conv ? 'latents' : 'z', { channels: latents, height, width });
	if (config.use_post_quant_conv) {
		path.layers.push({ name: 'post_quant_conv', build: (ctx, live) => live.set('latents', conv2d(ctx, live.get('z'), latents, 1)) });
	}
	layInput(path, channels.at(-1)!, { prefix: 'decoder.' });
	midBlock(path, 'decoder.mid_block', midAttention(config));
	types.forEach((_, i) => {
		const attentions = new Array<BlockAttention>(config.layers_per_block + 1).fill(none);
		const resampling = i === types.length - 1 ? undefined : 'conv';
		upBlock(path, { name: `decoder.up_blocks.${i}`, channels: channels[channels.length - 1 - i]!, attentions, resampling });
	});
	layOutput(path, config.out_channels, 'sample', 'silu', { prefix: 'decoder.' });
	return {
		name: `${className}.decoder`,
		inputs: { z: { dtype: 'float32', shape: [latents, height, width] } },
		layers: path.layers,
		outputs: ['sample'],
	};
}
