import { describe, expect, it } from 'vitest';
import { readSD3Config, sd3Chain } from '../../../src/models/sd3.ts';
import { modelSize, rounded } from '../../helpers/model-size.ts';

const published = {
	_class_name: 'SD3Transformer2DModel',
	_diffusers_version: '0.31.0.dev0',
	attention_head_dim: 64,
	in_channels: 16,
	joint_attention_dim: 4096,
	out_channels: 16,
	patch_size: 2,
	pooled_projection_dim: 2048,
	sample_size: 128,
};
const medium = { num_attention_heads: 24, num_layers: 24, caption_projection_dim: 1536 };
const dual = { dual_attention_layers: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], qk_norm: 'rms_norm', pos_embed_max_size: 384 };
const large = { num_attention_heads: 38, num_layers: 38, caption_projection_dim: 2432, dual_attention_layers: [], qk_norm: 'rms_norm' };

describe('Stable Diffusion 3 as published, 1024 pixels and 333 text tokens', () => {
	// The position table is a buffer: saved, not trained, counted apart.
	it.each([
		['3 medium', { ...medium, pos_embed_max_size: 192 }, '2028.3', '4452', 192 * 192 * 1536],
		['3.5 medium', { ...medium, ...dual }, '2243.2', '5625', 384 * 384 * 1536],
		['3.5 large', { ...large, pos_embed_max_size: 192 }, '8056.6', '15561', 192 * 192 * 2432],
	])('%s', (_, own, parameters, macs, buffers) => {
		const size = modelSize(sd3Chain(readSD3Config({ ...published, ...own })));
		expect(rounded(size.parameters, 1e6, 1)).toBe(parameters);
		expect(size.buffers).toBe(buffers);
		expect(rounded(size.macs, 1e9, 0)).toBe(macs);
	});
});
