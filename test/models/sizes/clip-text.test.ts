import { describe, expect, it } from 'vitest';
import { createEncoder } from '../../../src/models/encoders.ts';
import { modelSize, rounded } from '../../helpers/model-size.ts';

/** What all published configs have; `transformers_version` and the like differ. */
const published = {
	_name_or_path: 'text_encoder',
	attention_dropout: 0.0,
	bos_token_id: 0,
	dropout: 0.0,
	eos_token_id: 2,
	initializer_factor: 1.0,
	initializer_range: 0.02,
	layer_norm_eps: 1e-5,
	max_position_embeddings: 77,
	model_type: 'clip_text_model',
	pad_token_id: 1,
	torch_dtype: 'float16',
	transformers_version: '4.32.0.dev0',
	vocab_size: 49408,
};
const L = { hidden_size: 768, intermediate_size: 3072, num_attention_heads: 12, num_hidden_layers: 12, hidden_act: 'quick_gelu' };
const H = { hidden_size: 1024, intermediate_size: 4096, num_attention_heads: 16, num_hidden_layers: 23, hidden_act: 'gelu' };
const bigG = { hidden_size: 1280, intermediate_size: 5120, num_attention_heads: 20, num_hidden_layers: 32, hidden_act: 'gelu' };

describe('CLIP text encoders as published, 77 tokens', () => {
	// H as Stable Diffusion 2 has it, without the last of its 24 layers; bigG alone is used, and counted, with its projection.
	it.each([
		['CLIP-L', 'CLIPTextModel', { ...L, projection_dim: 768 }, '123.06', '6.6'],
		['OpenCLIP-H', 'CLIPTextModel', { ...H, projection_dim: 512 }, '340.39', '22.6'],
		['OpenCLIP-bigG', 'CLIPTextModelWithProjection', { ...bigG, projection_dim: 1280 }, '694.66', '48.9'],
	])('%s', (_, className, own, parameters, macs) => {
		const size = modelSize(createEncoder(className, { ...published, architectures: [className], ...own }).chain);
		expect(rounded(size.parameters, 1e6, 2)).toBe(parameters);
		expect(rounded(size.macs, 1e9, 1)).toBe(macs);
	});
});
