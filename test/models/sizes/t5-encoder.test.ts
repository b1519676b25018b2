import { describe, expect, it } from 'vitest';
import { createEncoder } from '../../../src/models/encoders.ts';
import { modelSize, rounded } from '../../helpers/model-size.ts';

/** `config.json` of T5 v1.1 XXL's encoder as SD3 and Flux have it. */
const xxl = {
	_name_or_path: 'google/t5-v1_1-xxl',
	architectures: ['T5EncoderModel'],
	classifier_dropout: 0.0,
	d_ff: 10240,
	d_kv: 64,
	d_model: 4096,
	decoder_start_token_id: 0,
	dense_act_fn: 'gelu_new',
	dropout_rate: 0.1,
	eos_token_id: 1,
	feed_forward_proj: 'gated-gelu',
	initializer_factor: 1.0,
	is_encoder_decoder: true,
	is_gated_act: true,
	layer_norm_epsilon: 1e-6,
	model_type: 't5',
	num_decoder_layers: 24,
	num_heads: 64,
	num_layers: 24,
	output_past: true,
	pad_token_id: 0,
	relative_attention_max_distance: 128,
	relative_attention_num_buckets: 32,
	tie_word_embeddings: false,
	torch_dtype: 'float16',
	transformers_version: '4.41.2',
	use_cache: true,
	vocab_size: 32128,
};

describe('T5-XXL encoder as published', () => {
	it.each([
		[120, '558.5'],
		[256, '1198.3'],
		[512, '2422.4'],
	])('%s tokens', (tokens, macs) => {
		const size = modelSize(createEncoder('T5EncoderModel', xxl, 't5', { tokens }).chain);
		expect(rounded(size.parameters, 1e6, 1)).toBe('4762.3');
		expect(rounded(size.macs, 1e9, 1)).toBe(macs);
	});
});
