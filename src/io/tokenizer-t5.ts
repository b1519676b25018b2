/** @file T5's tokenizer from its `spiece.model`: the likeliest split into pieces (unigram model), in the form of a `tokenizer.json`. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DiffusionPipeError } from '../core/errors.ts';
import { fileError } from './file-error.ts';
import { readSentencePiece } from './sentencepiece.ts';
import { type AddedToken, type Component, type SpecialTokens, specialToken, type TokenizerJson } from './tokenizer-json.ts';

/** What T5Tokenizer takes for a role that no file names. */
export const t5SpecialTokens: Required<Omit<SpecialTokens, 'bos_token'>> = {
	eos_token: specialToken('</s>'),
	unk_token: specialToken('<unk>'),
	pad_token: specialToken('<pad>'),
};

/** Entries of tokenizer_config.json that change how T5 splits text. */
export interface T5Options {
	/** False: a blank is put before the text alone, not after special tokens in it, too. */
	readonly legacy: boolean;
	/** Number of `<extra_id_N>` tokens after the vocabulary, the last one first. */
	readonly extraIds: number;
}

/**
 * Reads `spiece.model` of `folder`. Unicode normalisation is NFKC with SentencePiece's treatment of control characters and blanks, which is what the
 * published models were made with.
 * @throws DiffusionPipeError of kind 'input' when the file is missing, malformed or not a unigram model
 */
export async function readT5Tokenizer(folder: string, special: SpecialTokens, options: T5Options): Promise<TokenizerJson> {
	const path = join(folder, 'spiece.model');
	let bytes: Uint8Array;
	try {
		bytes = await readFile(path);
	} catch (error) {
		throw fileError(path, 'read', error);
	}
	const model = readSentencePiece(bytes, path);
	const { pieces } = model;
	if (model.modelType !== 'unigram' || pieces.some((p) => p.kind === 'byte')) {
		throw new DiffusionPipeError('input', 'this kind of SentencePiece model is not supported', {
			place: path,
			expected: 'a unigram model without byte pieces, as T5 has',
			found: model.modelType === 'unigram' ? 'byte pieces' : model.modelType,
			hint: 'save a tokenizer.json beside it, in Python: AutoTokenizer.from_pretrained(folder).save_pretrained(folder)',
		});
	}
	const { eos_token: eos } = { ...t5SpecialTokens, ...special };
	const eosId = pieces.findIndex((p) => p.text === eos.content);
	if (eosId === -1) {
		throw new DiffusionPipeError('input', `the special token ${JSON.stringify(eos.content)} is missing`, {
			place: path,
			hint: 'spiece.model and special_tokens_map.json must be from one tokenizer',
		});
	}
	const normalizers: Component[] = [];
	if (model.charsMap.length > 0) {
		normalizers.push({ type: 'Precompiled', precompiled_charsmap: Buffer.from(model.charsMap).toString('base64') });
	}
	if (model.removeExtraWhitespaces) {
		normalizers.push({ type: 'Strip', strip_left: true, strip_right: true });
		normalizers.push({ type: 'Replace', pattern: { Regex: ' {2,}' }, content: ' ' });
	}
	const token = { SpecialToken: { id: eos.content, type_id: 0 } };
	return {
		added_tokens: [
			...pieces.flatMap(({ text, kind }, id): AddedToken[] =>
				kind === 'control' || kind === 'userDefined' ? [{ ...specialToken(text), id, special: kind === 'control' }] : [],
			),
			...Array.from({ length: options.extraIds }, (_, i) => ({
				...specialToken(`<extra_id_${i}>`),
				id: pieces.length + options.extraIds - 1 - i,
			})),
		],
		normalizer: { type: 'Sequence', normalizers },
		pre_tokenizer: {
			type: 'Metaspace',
			replacement: '▁',
			prepend_scheme: !model.addDummyPrefix ? 'never' : options.legacy ? 'always' : 'first',
		},
		model: { type: 'Unigram', unk_id: model.unknownId, vocab: pieces.map((p) => [p.text, p.score]) },
		post_processor: {
			type: 'TemplateProcessing',
			single: [{ Sequence: { id: 'A', type_id: 0 } }, token],
			pair: [{ Sequence: { id: 'A', type_id: 0 } }, token, { Sequence: { id: 'B', type_id: 0 } }, token],
			special_tokens: { [eos.content]: { id: eos.content, ids: [eosId], tokens: [eos.content] } },
		},
		decoder: { type: 'Metaspace', replacement: '▁' },
	};
}
