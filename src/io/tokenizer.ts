/** @file Text to token ids as the text encoders of diffusion models take them. */
import type { Tokenizer as LibraryTokenizer } from '@huggingface/tokenizers';
import { DiffusionPipeError } from '../core/errors.ts';
import type { Tensor } from '../core/tensor.ts';
import { readTokenizerFolder, type TokenizerFolder } from './tokenizer-folder.ts';

/** How texts become rows of one length. */
export interface EncodeOptions {
	/** Tokens of a row, special tokens included. Default: the tokenizer's `maxLength` (CLIP: 77). */
	readonly maxLength?: number;
	/** `max_length` (default): every row has `maxLength` tokens; `longest`: as many as the longest text. */
	readonly padding?: 'max_length' | 'longest';
	/** Cut texts that are longer than `maxLength`, keeping the end token (default). False: such a text is an error. */
	readonly truncation?: boolean;
}

/** Encoded texts, one row each. */
export interface EncodedTexts {
	/** [texts, tokens] */
	readonly inputIds: Tensor<'int64'>;
	/** [texts, tokens]: 1 for tokens of the text and its special tokens, 0 for padding. */
	readonly attentionMask: Tensor<'int64'>;
	/** Which texts were cut. */
	readonly truncated: readonly number[];
}

export interface Tokenizer {
	/** Throws an input error for a text that cannot be encoded, a usage error for options that do not go together. */
	encode(texts: readonly string[], options?: EncodeOptions): EncodedTexts;
	/** Ids are below this number. */
	readonly vocabularySize: number;
	/** `model_max_length`; undefined when the folder names none. */
	readonly maxLength: number | undefined;
	/** Ids of the special tokens; undefined where the tokenizer has none. */
	readonly special: { readonly bos?: number; readonly eos?: number; readonly unk?: number; readonly pad?: number };
}

/**
 * Opens a `tokenizer/` folder of a diffusers pipeline: `tokenizer.json`, or CLIP's `vocab.json` and `merges.txt`, or T5's `spiece.model`, with
 * `tokenizer_config.json` and `special_tokens_map.json` beside them.
 * @throws DiffusionPipeError of kind 'input' naming the file that is missing or malformed
 */
export async function openTokenizer(folder: string): Promise<Tokenizer> {
	const files = await readTokenizerFolder(folder);
	const { Tokenizer: Library } = await import('@huggingface/tokenizers');
	let library: LibraryTokenizer;
	try {
		library = new Library(files.json, files.config);
	} catch (cause) {
		throw new DiffusionPipeError('input', 'the tokenizer cannot be built', { place: files.place, found: (cause as Error).message, cause });
	}
	return wrap(library, files);
}

function wrap(library: LibraryTokenizer, { special, config, place }: TokenizerFolder): Tokenizer {
	const { before, after } = surroundings(library, place);
	let vocabularySize = 0;
	for (const id of library.get_vocab(true).values()) vocabularySize = Math.max(vocabularySize, id + 1);
	const limit = config.model_max_length;
	// Tokenizers without a limit are saved with 1e30.
	const ownLength = typeof limit === 'number' && limit > 0 && limit < 1e9 ? limit : undefined;
	const ids = {
		...(special.bos_token && { bos: special.bos_token.id }),
		...(special.eos_token && { eos: special.eos_token.id }),
		...(special.unk_token && { unk: special.unk_token.id }),
		...(special.pad_token && { pad: special.pad_token.id }),
	};
	const idsOf = (text: string): readonly number[] => {
		const { ids: found, tokens } = encodeWith(library, text, place);
		// The library gives undefined for a piece that is in no vocabulary when the tokenizer has no token for that.
		const unknown = found.findIndex((id: number | undefined) => id === undefined);
		if (unknown === -1) return found;
		throw new DiffusionPipeError('input', `the text holds ${JSON.stringify(tokens[unknown])}, which is not in the vocabulary`, { place });
	};
	return {
		vocabularySize,
		maxLength: ownLength,
		special: ids,
		encode(texts, { maxLength = ownLength, padding = 'max_length', truncation = true } = {}) {
			const fixed = before.length + after.length;
			if (maxLength === undefined ? padding === 'max_length' : !Number.isSafeInteger(maxLength) || maxLength <= fixed) {
				throw new DiffusionPipeError('usage', 'maxLength does not do', {
					place,
					expected: `a whole number above ${fixed}${maxLength === undefined ? ', since the tokenizer has no length of its own' : ''}`,
					found: maxLength === undefined ? 'nothing' : `${maxLength}`,
				});
			}
			const truncated: number[] = [];
			const rows = texts.map((text, i) => {
				let inner = idsOf(text);
				if (maxLength !== undefined && inner.length + fixed > maxLength) {
					if (!truncation) {
						throw new DiffusionPipeError('input', `text ${i} is too long`, {
							place,
							expected: `at most ${maxLength} tokens`,
							found: `${inner.length + fixed} tokens: ${JSON.stringify(text.slice(0, 60))}`,
							hint: 'shorten it, or let it be cut with truncation: true',
						});
					}
					inner = inner.slice(0, maxLength - fixed);
					truncated.push(i);
				}
				return [...before, ...inner, ...after];
			});
			const width = padding === 'max_length' ? maxLength! : Math.max(0, ...rows.map((row) => row.length));
			if (ids.pad === undefined && rows.some((row) => row.length < width)) {
				throw new DiffusionPipeError('input', 'the tokenizer has no pad_token', {
					place,
					expected: 'pad_token in special_tokens_map.json or tokenizer_config.json, since texts of different lengths are encoded together',
				});
			}
			const shape = [rows.length, width];
			const inputIds = new BigInt64Array(rows.length * width).fill(BigInt(ids.pad ?? 0));
			const attentionMask = new BigInt64Array(rows.length * width);
			rows.forEach((row, r) => {
				row.forEach((id, k) => {
					inputIds[r * width + k] = BigInt(id);
					attentionMask[r * width + k] = 1n;
				});
			});
			return {
				inputIds: { dtype: 'int64', shape, data: inputIds },
				attentionMask: { dtype: 'int64', shape, data: attentionMask },
				truncated,
			};
		},
	};
}

/** The library's own encoding, without special tokens. It does not check a tokenizer.json: what that leaves out fails only here. */
function encodeWith(library: LibraryTokenizer, text: string, place: string): { ids: number[]; tokens: string[] } {
	try {
		return library.encode(text, { add_special_tokens: false });
	} catch (cause) {
		throw new DiffusionPipeError('input', 'the tokenizer failed', {
			place,
			found: `${(cause as Error).message}, on ${JSON.stringify(text.slice(0, 60))}`,
			hint: 'get the tokenizer folder again',
			cause,
		});
	}
}

/** Ids that the post-processor puts before and after a text. */
function surroundings(library: LibraryTokenizer, place: string): { before: readonly number[]; after: readonly number[] } {
	// Stands for the text; no post-processor makes this private-use character a special token.
	const text = '\uF8FF';
	const tokens = library.post_processor?.post_process([text], null, true).tokens ?? [text];
	const at = tokens.indexOf(text);
	const idOf = (token: string): number => {
		const id = library.token_to_id(token);
		if (id !== undefined) return id;
		throw new DiffusionPipeError('input', `post_processor adds ${JSON.stringify(token)}, which is not in the vocabulary`, { place });
	};
	return { before: tokens.slice(0, at).map(idOf), after: tokens.slice(at + 1).map(idOf) };
}
