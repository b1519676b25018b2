import { describe, expect, it } from 'vitest';
import { pixartChain, readPixArtConfig } from '../../../src/models/pixart.ts';
import { modelSize, rounded } from '../../helpers/model-size.ts';

/** `config.json` of PixArt-alpha's transformers, but for the size. */
const published = {
	_class_name: 'PixArtTransformer2DModel',
	_diffusers_version: '0.22.0.dev0',
	activation_fn: 'gelu-approximate',
	attention_bias: true,
	attention_head_dim: 72,
	attention_type: 'default',
	caption_channels: 4096,
	cross_attention_dim: 1152,
	dropout: 0.0,
	in_channels: 4,
	norm_elementwise_affine: false,
	norm_eps: 1e-6,
	norm_num_groups: 32,
	norm_type: 'ada_norm_single',
	num_attention_heads: 16,
	num_embeds_ada_norm: 1000,
	num_layers: 28,
	out_channels: 8,
	patch_size: 2,
	upcast_attention: false,
};

describe('PixArt-alpha as published, 120 text tokens', () => {
	it.each([
		['512 pixels', 64, '610.86', '618'],
		['1024 pixels', 128, '611.35', '3255'],
	])('%s', (_, sample_size, parameters, macs) => {
		const size = modelSize(pixartChain(readPixArtConfig({ ...published, sample_size })));
		expect(rounded(size.parameters, 1e6, 2)).toBe(parameters);
		expect(rounded(size.macs, 1e9, 0)).toBe(macs);
	});
});
