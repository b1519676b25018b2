/**
 * @file Published sizes of U-Nets, ControlNets and autoencoders. Multiply-accumulates are those of every convolution and matrix product, the two of
 * attention included, for one sample and one forward pass; parameters are all that checkpoints hold.
 */
import { describe, expect, it } from 'vitest';
import { autoencoderKLDecoderChain, autoencoderKLEncoderChain, readAutoencoderKLConfig } from '../../../src/models/autoencoder-kl.ts';
import { controlNetChain, readControlNetConfig } from '../../../src/models/controlnet.ts';
import { readUNetConfig, unetChain } from '../../../src/models/unet.ts';
import { readUNetConditionConfig, unetConditionChain } from '../../../src/models/unet-condition.ts';
import { type Chain, traceChain } from '../../../src/nn/chain.ts';
import { modelSize, rounded } from '../../helpers/model-size.ts';

// What the published configs say beside the defaults.
const sd15 = { cross_attention_dim: 768 };
const sd21 = { cross_attention_dim: 1024, attention_head_dim: [5, 10, 20, 20], use_linear_projection: true };
const sdxl = {
	block_out_channels: [320, 640, 1280],
	down_block_types: ['DownBlock2D', 'CrossAttnDownBlock2D', 'CrossAttnDownBlock2D'],
	transformer_layers_per_block: [1, 2, 10],
	attention_head_dim: [5, 10, 20],
	cross_attention_dim: 2048,
	use_linear_projection: true,
	addition_embed_type: 'text_time',
	addition_time_embed_dim: 256,
	projection_class_embeddings_input_dim: 2816,
};
const sdxlUp = { up_block_types: ['CrossAttnUpBlock2D', 'CrossAttnUpBlock2D', 'UpBlock2D'] };
const autoencoder = {
	block_out_channels: [128, 256, 512, 512],
	down_block_types: new Array(4).fill('DownEncoderBlock2D'),
	up_block_types: new Array(4).fill('UpDecoderBlock2D'),
	layers_per_block: 2,
	sample_size: 512,
};
const condition = (config: object, side: number) => unetConditionChain(readUNetConditionConfig(config), { height: side, width: side });
const control = (config: object, side: number) => controlNetChain(readControlNetConfig(config), { height: side, width: side });
/** The way down and the middle: all before the first up block. */
const encoderOf = (chain: Chain): Chain => {
	const end = chain.layers.findIndex((layer) => layer.name.startsWith('up_blocks'));
	return { ...chain, layers: chain.layers.slice(0, end), outputs: ['hidden'] };
};
/** Millions of parameters and 10^9 multiply-accumulates to as many places as the published numbers have. */
const size = (chain: Chain, places: readonly [number, number]) => {
	const { parameters, macs } = modelSize(chain);
	return [rounded(parameters, 1e6, places[0]), rounded(macs, 1e9, places[1])];
};

describe('UNet2DConditionModel as published', () => {
	it('Stable Diffusion 1.5, 512 pixels', () => {
		const chain = condition(sd15, 64);
		expect(traceChain(chain, 1).parameters.size).toBe(686);
		expect(size(chain, [2, 1])).toEqual(['859.52', '401.6']);
		expect(size(encoderOf(chain), [1, 1])).toEqual(['348.7', '130.7']);
	});

	it('Stable Diffusion 2.1, 512 and 768 pixels', () => {
		expect(size(condition(sd21, 64), [2, 1])).toEqual(['865.91', '402.1']);
		expect(size(condition(sd21, 96), [2, 1])).toEqual(['865.91', '1074.6']);
	});

	it('SDXL, 1024 pixels', () => {
		const chain = condition({ ...sdxl, ...sdxlUp }, 128);
		expect(traceChain(chain, 1).parameters.size).toBe(1680);
		expect(size(chain, [2, 1])).toEqual(['2567.46', '3380.6']);
		expect(size(encoderOf(chain), [1, 1])).toEqual(['1243.4', '1466.5']);
	});
});

describe('ControlNetModel as published', () => {
	it('for Stable Diffusion 1.5, 512 pixels', () => {
		expect(size(control(sd15, 64), [2, 1])[0]).toBe('361.28');
		// Usually given as 141.7; half of what PyTorch's FlopCounterMode counts for diffusers' model is this, to the last digit.
		expect(modelSize(control(sd15, 64)).macs).toBe(141_645_987_840);
	});

	it('for SDXL', () => {
		expect(size(control(sdxl, 128), [1, 0])[0]).toBe('1251.0');
	});
});

describe('UNet2DModel as published', () => {
	it('DDPM for CIFAR-10 (35.7M parameters in 2006.11239)', () => {
		const config = {
			sample_size: 32,
			block_out_channels: [128, 256, 256, 256],
			down_block_types: ['DownBlock2D', 'AttnDownBlock2D', 'DownBlock2D', 'DownBlock2D'],
			up_block_types: ['UpBlock2D', 'UpBlock2D', 'AttnUpBlock2D', 'UpBlock2D'],
			attention_head_dim: null,
			downsample_padding: 0,
		};
		expect(size(unetChain(readUNetConfig(config)), [1, 0])[0]).toBe('35.7');
	});
});

describe('AutoencoderKL as published', () => {
	const config = readAutoencoderKLConfig(autoencoder);

	it('of Stable Diffusion, 512 and 1024 pixels', () => {
		expect(size(autoencoderKLEncoderChain(config), [2, 0])).toEqual(['34.16', '558']);
		expect(size(autoencoderKLDecoderChain(config), [2, 0])).toEqual(['49.49', '1257']);
		expect(size(autoencoderKLEncoderChain(config, { height: 1024, width: 1024 }), [2, 0])[1]).toBe('2439');
		expect(size(autoencoderKLDecoderChain(config, { height: 128, width: 128 }), [2, 0])[1]).toBe('5235');
	});

	it('of SD3 and Flux, with sixteen latent channels', () => {
		const wide = readAutoencoderKLConfig({ ...autoencoder, latent_channels: 16, use_quant_conv: false, use_post_quant_conv: false });
		const both = modelSize(autoencoderKLEncoderChain(wide)).parameters + modelSize(autoencoderKLDecoderChain(wide)).parameters;
		expect(rounded(both, 1e6, 2)).toBe('83.82');
	});
});
