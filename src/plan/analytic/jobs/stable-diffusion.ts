/** @file Stable Diffusion 1.5, 2.1 and XL: their U-Nets, and the training of them. */
import { readUNetConditionConfig, type UNetConditionOptions, unetConditionChain } from '../../../models/unet-condition.ts';
import type { Chain } from '../../../nn/chain.ts';
import type { JobChains } from '../chain-work.ts';
import { clipBigG, clipH, clipL, vaeEncoder } from './parts.ts';

/** What the config of Stable Diffusion 1.5's U-Net, and of a ControlNet for it, says beside the defaults. */
export const sd15Config: object = { cross_attention_dim: 768 };

const sdxlConfig = {
	block_out_channels: [320, 640, 1280],
	down_block_types: ['DownBlock2D', 'CrossAttnDownBlock2D', 'CrossAttnDownBlock2D'],
	up_block_types: ['CrossAttnUpBlock2D', 'CrossAttnUpBlock2D', 'UpBlock2D'],
	transformer_layers_per_block: [1, 2, 10],
	attention_head_dim: [5, 10, 20],
	cross_attention_dim: 2048,
	use_linear_projection: true,
	addition_embed_type: 'text_time',
	addition_time_embed_dim: 256,
	projection_class_embeddings_input_dim: 2816,
};

/** Stable Diffusion 1.5's U-Net for 512 pixels. */
export function sd15UNet(options: UNetConditionOptions = {}): Chain {
	return unetConditionChain(readUNetConditionConfig(sd15Config), { height: 64, width: 64, ...options });
}

/** Stable Diffusion 2.1 (base) at 512 pixels: 865.91M parameters trained. */
export function sd21(): JobChains {
	const config = { cross_attention_dim: 1024, attention_head_dim: [5, 10, 20, 20], use_linear_projection: true };
	return {
		name: 'sd21',
		backbones: [{ name: 'unet', chain: unetConditionChain(readUNetConditionConfig(config), { height: 64, width: 64 }) }],
		frozen: [
			{ name: 'vae', chain: vaeEncoder(512) },
			{ name: 'text_encoder', chain: clipH() },
		],
	};
}

/** SDXL base at 1024 pixels: 2567.46M parameters trained. */
export function sdxl(): JobChains {
	return {
		name: 'sdxl',
		backbones: [{ name: 'unet', chain: unetConditionChain(readUNetConditionConfig(sdxlConfig), { height: 128, width: 128 }) }],
		frozen: [
			{ name: 'vae', chain: vaeEncoder(1024) },
			{ name: 'text_encoder', chain: clipL() },
			{ name: 'text_encoder_2', chain: clipBigG() },
		],
	};
}
