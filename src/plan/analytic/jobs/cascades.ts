/**
 * @file Cascades of pixel diffusion models (Ho et al., 2106.15282): a base model and a super-resolution model, trained together. Nothing is frozen.
 */
import { readUNetConfig, unetChain } from '../../../models/unet.ts';
import type { Chain } from '../../../nn/chain.ts';
import type { JobChains } from '../chain-work.ts';

interface CascadeUNet {
	readonly side: number;
	/** 6 where the small picture, enlarged, is joined to the noised one. */
	readonly inputs: 3 | 6;
	readonly widths: readonly number[];
	readonly layers: number;
	/** Levels, from the finest, with attention. */
	readonly attention: readonly number[];
	readonly classes?: number;
	/** Whether mean and variance are predicted. */
	readonly variance?: boolean;
}

/** Residual blocks that scale and shift by the timestep and resample themselves, heads 64 wide: Dhariwal and Nichol, 2105.05233. */
function guidedUNet({ side, inputs, widths, layers, attention, classes, variance = true }: CascadeUNet): Chain {
	const types = widths.map((_, i) => attention.includes(i));
	const config = readUNetConfig({
		sample_size: side,
		in_channels: inputs,
		out_channels: variance ? 6 : 3,
		block_out_channels: widths,
		layers_per_block: layers,
		down_block_types: types.map((attends) => (attends ? 'AttnDownBlock2D' : 'ResnetDownsampleBlock2D')),
		up_block_types: types.toReversed().map((attends) => (attends ? 'AttnUpBlock2D' : 'ResnetUpsampleBlock2D')),
		downsample_type: 'resnet',
		upsample_type: 'resnet',
		resnet_time_scale_shift: 'scale_shift',
		attention_head_dim: 64,
		attn_norm_num_groups: 32,
		...(classes === undefined ? {} : { num_class_embeds: classes }),
	});
	return unetChain(config);
}

/**
 * ImageNet, 64 pixels and 64 to 256: the published class-conditional 64 x 64 model (295.9M parameters) and 64 to 256 upsampler (311.8M) of Dhariwal and
 * Nichol, 2105.05233.
 */
export function cdmImageNet(): JobChains {
	const base = { side: 64, inputs: 3, widths: [192, 384, 576, 768], layers: 3, attention: [1, 2, 3], classes: 1000 } as const;
	const large = { side: 256, inputs: 6, widths: [192, 192, 384, 384, 768, 768], layers: 2, attention: [3, 4, 5], classes: 1000 } as const;
	return {
		name: 'cdm-imagenet',
		backbones: [
			{ name: 'base', chain: guidedUNet(base) },
			{ name: 'super_resolution', chain: guidedUNet(large) },
		],
		frozen: [],
	};
}

/**
 * LSUN, 64 pixels and 64 to 128, without classes: the same models at the widths that Dhariwal and Nichol use for these sizes (1, 2, 3, 4 and 1, 1, 2, 3,
 * 4 times the first), 128 channels first, attention at 32 pixels and below.
 */
export function cdmLSUN(): JobChains {
	const base = { side: 64, inputs: 3, widths: [128, 256, 384, 512], layers: 3, attention: [1, 2, 3] } as const;
	const large = { side: 128, inputs: 6, widths: [128, 128, 256, 384, 512], layers: 2, attention: [2, 3, 4] } as const;
	return {
		name: 'cdm-lsun',
		backbones: [
			{ name: 'base', chain: guidedUNet(base) },
			{ name: 'super_resolution', chain: guidedUNet(large) },
		],
		frozen: [],
	};
}
