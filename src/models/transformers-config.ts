/** @file What the `config.json` files of transformers' models share: general keys without meaning for an encoder, and activations by name. */
import type { GraphBuilder } from '../graph/builder.ts';
import type { Value } from '../graph/types.ts';
import { silu } from '../nn/embeddings.ts';
import { type OptionsOf, readConfig } from './config.ts';

/** Keys that any model of transformers may have saved: where it came from, its tokens, how to generate text. */
const generalKeys = new Set(
	`architectures model_type transformers_version torch_dtype dtype name_or_path return_dict output_hidden_states output_attentions torchscript
	use_bfloat16 tf_legacy_loss pruned_heads tie_word_embeddings chunk_size_feed_forward is_encoder_decoder cross_attention_hidden_size
	add_cross_attention tie_encoder_decoder finetuning_task id2label label2id num_labels tokenizer_class prefix bos_token_id pad_token_id
	sep_token_id decoder_start_token_id task_specific_params problem_type max_length min_length do_sample early_stopping num_beams num_beam_groups
	diversity_penalty temperature top_k top_p typical_p repetition_penalty length_penalty no_repeat_ngram_size encoder_no_repeat_ngram_size
	bad_words_ids num_return_sequences output_scores return_dict_in_generate forced_bos_token_id forced_eos_token_id remove_invalid_values
	exponential_decay_length_penalty suppress_tokens begin_suppress_tokens use_cache output_past`.split(/\s+/),
);

/** As `readConfig`, without the general keys and those of `ignored`, which mean nothing to the model as it runs here. */
export function readTransformersConfig<C extends object>(
	className: string,
	raw: unknown,
	options: OptionsOf<C>,
	ignored: readonly string[],
	place?: string,
): C {
	const means = (key: string) => Object.hasOwn(options, key) || !(generalKeys.has(key) || ignored.includes(key));
	const isObject = typeof raw === 'object' && raw !== null && !Array.isArray(raw);
	return readConfig<C>(className, isObject ? Object.fromEntries(Object.entries(raw).filter(([key]) => means(key))) : raw, options, place);
}

/** Activations by transformers' names. */
export const textActivations = {
	/** x sigmoid(1.702 x), the approximation of GELU that OpenAI's CLIP was trained with. */
	quick_gelu: (g: GraphBuilder, x: Value): Value => g.mul(x, g.sigmoid(g.mul(x, 1.702))),
	gelu: (g: GraphBuilder, x: Value): Value => g.gelu(x),
	gelu_new: (g: GraphBuilder, x: Value): Value => g.gelu(x, 'tanh'),
	gelu_pytorch_tanh: (g: GraphBuilder, x: Value): Value => g.gelu(x, 'tanh'),
	relu: (g: GraphBuilder, x: Value): Value => g.relu(x),
	silu,
} as const satisfies Record<string, (g: GraphBuilder, x: Value) => Value>;

export type TextActivation = keyof typeof textActivations;

/** Names for config tables. */
export const textActivationNames = Object.keys(textActivations) as readonly TextActivation[];
