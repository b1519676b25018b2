/** @file Parts that several published jobs share, with the configs their checkpoints have. */
import { autoencoderKLEncoderChain, readAutoencoderKLConfig } from '../../../models/autoencoder-kl.ts';
import { createEncoder } from '../../../models/encoders.ts';
import type { Chain } from '../../../nn/chain.ts';

/** The image encoder of AutoencoderKL as Stable Diffusion (4 latent channels) and SD3 and Flux (16) have it, at `pixels` a side. */
export function vaeEncoder(pixels: number, latentChannels: 4 | 16 = 4): Chain {
	const wide = latentChannels === 16 ? { latent_channels: 16, use_quant_conv: false, use_post_quant_conv: false } : {};
	const config = readAutoencoderKLConfig({
		block_out_channels: [128, 256, 512, 512],
		down_block_types: new Array(4).fill('DownEncoderBlock2D'),
		up_block_types: new Array(4).fill('UpDecoderBlock2D'),
		layers_per_block: 2,
		sample_size: pixels,
		...wide,
	});
	return autoencoderKLEncoderChain(config);
}

const clip = { eos_token_id: 2, max_position_embeddings: 77, model_type: 'clip_text_model', pad_token_id: 1, vocab_size: 49408 };

/** CLIP ViT-L's text model: Stable Diffusion 1, SDXL, SD3 and Flux. */
export function clipL(): Chain {
	const own = { hidden_size: 768, intermediate_size: 3072, num_attention_heads: 12, num_hidden_layers: 12, hidden_act: 'quick_gelu' };
	return createEncoder('CLIPTextModel', { ...clip, ...own, projection_dim: 768 }).chain;
}

/** OpenCLIP ViT-H's text model as Stable Diffusion 2 has it: 23 of its 24 layers. */
export function clipH(): Chain {
	const own = { hidden_size: 1024, intermediate_size: 4096, num_attention_heads: 16, num_hidden_layers: 23, hidden_act: 'gelu' };
	return createEncoder('CLIPTextModel', { ...clip, ...own, projection_dim: 512 }).chain;
}

/** OpenCLIP ViT-bigG's text model: SDXL and SD3. */
export function clipBigG(): Chain {
	const own = { hidden_size: 1280, intermediate_size: 5120, num_attention_heads: 20, num_hidden_layers: 32, hidden_act: 'gelu' };
	return createEncoder('CLIPTextModelWithProjection', { ...clip, ...own, projection_dim: 1280 }).chain;
}

/** T5 v1.1 XXL's encoder at `tokens` tokens: SD3 and Flux. */
export function t5XXL(tokens: number): Chain {
	const config = {
		d_ff: 10240,
		d_kv: 64,
		d_model: 4096,
		feed_forward_proj: 'gated-gelu',
		dense_act_fn: 'gelu_new',
		is_gated_act: true,
		layer_norm_epsilon: 1e-6,
		model_type: 't5',
		num_heads: 64,
		num_layers: 24,
		relative_attention_max_distance: 128,
		relative_attention_num_buckets: 32,
		vocab_size: 32128,
	};
	return createEncoder('T5EncoderModel', config, undefined, { tokens }).chain;
}
