/** @file Texts as the states of a pipeline's text encoders. */
import { join } from 'node:path';
import type { Tensor, TypeShape } from '../core/tensor.ts';
import type { PipelineIndex } from '../io/model-folder.ts';
import { openTokenizer, type Tokenizer } from '../io/tokenizer.ts';
import { createEncoder, type Encoder } from '../models/encoders.ts';
import { runOnce } from './in-sections.ts';
import { checkWeights, type ModelPart, openPart, partClass, type RunOptions } from './parts.ts';

/** How a pipeline uses one of its text encoders. */
export interface TextUse {
	/** Parts of the pipeline, as `tokenizer_2` and `text_encoder_2`. */
	readonly tokenizer: string;
	readonly encoder: string;
	/** Tokens of a text. Default: as many as the tokenizer cuts at and the encoder has positions for. */
	readonly tokens?: number;
	/** True when padding is not looked at. */
	readonly attentionMask?: boolean;
	/** Outputs wanted of the encoder, given how many blocks it has. */
	readonly outputs: (blocks: number) => readonly string[];
	/** True when a pipeline may be without it. */
	readonly optional?: boolean;
}

/** A text encoder with its tokenizer, checked. */
export interface OpenTextEncoder {
	readonly use: TextUse;
	readonly part: ModelPart;
	readonly tokenizer: Tokenizer;
	readonly encoder: Encoder;
	readonly tokens: number;
	/** Type of each output for one text. */
	readonly types: Readonly<Record<string, TypeShape>>;
}

/** What an encoder gives for texts. */
export interface EncodedTexts {
	/** By the encoder's own output names, one row per text. */
	readonly outputs: Readonly<Record<string, Tensor>>;
	/** [texts, tokens] (int64): 1 for tokens of the text, 0 for padding. */
	readonly attentionMask: Tensor<'int64'>;
}

/** Opens a text encoder and its tokenizer; undefined for an optional one that the folder does not have. The caller closes `part.weights`. */
export async function openTextEncoder(folder: string, index: PipelineIndex, use: TextUse): Promise<OpenTextEncoder | undefined> {
	if (use.optional && !index.parts[use.encoder]) return undefined;
	partClass(folder, index, use.tokenizer);
	const tokenizer = await openTokenizer(join(folder, use.tokenizer));
	const part = await openPart(folder, index, use.encoder);
	try {
		const { num_hidden_layers, num_layers, max_position_embeddings } = part.config as Readonly<Record<string, unknown>>;
		const positions = typeof max_position_embeddings === 'number' ? max_position_embeddings : undefined;
		const tokens = use.tokens ?? Math.min(tokenizer.maxLength ?? positions ?? 77, positions ?? Number.POSITIVE_INFINITY);
		const encoder = createEncoder(part.className, part.config, part.place, {
			tokens,
			outputs: use.outputs(Number(num_hidden_layers ?? num_layers ?? 12)),
			weightNames: part.weights.names,
			...(use.attentionMask ? { attentionMask: true } : {}),
		});
		return { use, part, tokenizer, encoder, tokens, types: checkWeights(encoder.chain, part) };
	} catch (error) {
		await part.weights.close();
		throw error;
	}
}

/** Encodes texts, on devices that are closed when it is done. Texts that are too long are cut; `onCut` gets their numbers. */
export async function encodeTexts(
	{ use, part, tokenizer, encoder, tokens }: OpenTextEncoder,
	texts: readonly string[],
	options: RunOptions,
	onCut: (texts: readonly number[], tokens: number) => void,
): Promise<EncodedTexts> {
	const { inputIds, attentionMask, truncated } = tokenizer.encode(texts, { maxLength: tokens });
	if (truncated.length > 0) onCut(truncated, tokens);
	const inputs = { input_ids: inputIds, ...(use.attentionMask ? { attention_mask: attentionMask } : {}) };
	// A few texts at once: their activations are small beside the weights.
	const outputs = await runOnce(encoder.chain, part, inputs, { ...options, elementsPerRow: 2 ** 14 });
	return { outputs, attentionMask };
}
