/** @file Diffusion transformers: DiT, Stable Diffusion 3 and Flux. */
import { ditChain, readDiTConfig } from '../../../models/dit.ts';
import { fluxChain, readFluxConfig } from '../../../models/flux.ts';
import { readSD3Config, sd3Chain } from '../../../models/sd3.ts';
import type { JobChains } from '../chain-work.ts';
import { clipBigG, clipL, t5XXL, vaeEncoder } from './parts.ts';

/** DiT-XL/2 on ImageNet at 256 pixels (Peebles and Xie, 2212.09748). */
export function ditXL(): JobChains {
	const config = { num_layers: 28, num_attention_heads: 16, attention_head_dim: 72, patch_size: 2, sample_size: 32, out_channels: 8 };
	return {
		name: 'dit-xl',
		backbones: [{ name: 'transformer', chain: ditChain(readDiTConfig(config)) }],
		frozen: [{ name: 'vae', chain: vaeEncoder(256) }],
	};
}

/** Stable Diffusion 3 medium at 1024 pixels, 77 + 256 text tokens (Esser et al., 2403.03206). */
export function sd3(): JobChains {
	const config = {
		attention_head_dim: 64,
		in_channels: 16,
		joint_attention_dim: 4096,
		out_channels: 16,
		patch_size: 2,
		pooled_projection_dim: 2048,
		sample_size: 128,
		num_attention_heads: 24,
		num_layers: 24,
		caption_projection_dim: 1536,
		pos_embed_max_size: 192,
	};
	return {
		name: 'sd3',
		backbones: [{ name: 'transformer', chain: sd3Chain(readSD3Config(config)) }],
		frozen: [
			{ name: 'vae', chain: vaeEncoder(1024, 16) },
			{ name: 'text_encoder', chain: clipL() },
			{ name: 'text_encoder_2', chain: clipBigG() },
			{ name: 'text_encoder_3', chain: t5XXL(256) },
		],
	};
}

/** Flux.1-dev at 1024 pixels, 512 text tokens. */
export function flux(): JobChains {
	const config = {
		attention_head_dim: 128,
		guidance_embeds: true,
		in_channels: 64,
		joint_attention_dim: 4096,
		num_attention_heads: 24,
		num_layers: 19,
		num_single_layers: 38,
		patch_size: 1,
		pooled_projection_dim: 768,
	};
	return {
		name: 'flux',
		backbones: [{ name: 'transformer', chain: fluxChain(readFluxConfig(config), { tokens: 512 }) }],
		frozen: [
			{ name: 'vae', chain: vaeEncoder(1024, 16) },
			{ name: 'text_encoder', chain: clipL() },
			{ name: 'text_encoder_2', chain: t5XXL(512) },
		],
	};
}
