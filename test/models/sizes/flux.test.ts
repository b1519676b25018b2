import { describe, expect, it } from 'vitest';
import { fluxChain, readFluxConfig } from '../../../src/models/flux.ts';
import { modelSize, rounded } from '../../helpers/model-size.ts';

const published = {
	_class_name: 'FluxTransformer2DModel',
	_diffusers_version: '0.30.0.dev0',
	attention_head_dim: 128,
	in_channels: 64,
	joint_attention_dim: 4096,
	num_attention_heads: 24,
	num_layers: 19,
	num_single_layers: 38,
	patch_size: 1,
	pooled_projection_dim: 768,
};

describe('Flux.1 as published, 1024 pixels', () => {
	it.each([
		['dev', true, 512, '11901.4', '37192'],
		['schnell', false, 256, '11891.2', '34733'],
	])('%s', (_, guidance_embeds, tokens, parameters, macs) => {
		const size = modelSize(fluxChain(readFluxConfig({ ...published, guidance_embeds }), { tokens }));
		expect(rounded(size.parameters, 1e6, 1)).toBe(parameters);
		expect(rounded(size.macs, 1e9, 0)).toBe(macs);
	});
});
