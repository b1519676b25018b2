/** @file CLIP's tokenizer from its `vocab.json` and `merges.txt`: byte-level pair encoding of lower-cased words, in the form of a `tokenizer.json`. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DiffusionPipeError } from '../core/errors.ts';
import { fileError } from './file-error.ts';
import { readJsonObject } from './json-file.ts';
import { type SpecialTokens, specialToken, type TokenizerJson } from './tokenizer-json.ts';

/** What CLIPTokenizer takes for a role that no file names. */
export const clipSpecialTokens: Required<SpecialTokens> = {
	bos_token: specialToken('<|startoftext|>'),
	eos_token: specialToken('<|endoftext|>'),
	unk_token: specialToken('<|endoftext|>'),
	pad_token: specialToken('<|endoftext|>'),
};

/** Contractions, words, single digits, runs of anything else; blanks part them (OpenAI's CLIP, simple_tokenizer.py). */
const words = "'s|'t|'re|'ve|'m|'ll|'d|[\\p{L}]+|[\\p{N}]|[^\\s\\p{L}\\p{N}]+";

/**
 * Reads `vocab.json` and `merges.txt` of `folder`. A word is written in bytes, each byte as one printable character, its last one with `</w>`; then
 * the pair that stands first in merges.txt is joined until none is left.
 * @throws DiffusionPipeError of kind 'input' naming the file (and line) that is missing or malformed
 */
export async function readClipTokenizer(folder: string, special: SpecialTokens): Promise<TokenizerJson> {
	const vocab = await readVocabulary(join(folder, 'vocab.json'));
	const merges = await readMerges(join(folder, 'merges.txt'), vocab);
	const { bos_token: bos, eos_token: eos, unk_token: unk } = { ...clipSpecialTokens, ...special };
	const end = (content: string): [string, number] => {
		const id = Object.hasOwn(vocab, content) ? vocab[content] : undefined;
		if (id !== undefined) return [content, id];
		throw new DiffusionPipeError('input', `the special token ${JSON.stringify(content)} is missing`, {
			place: join(folder, 'vocab.json'),
			hint: 'vocab.json and special_tokens_map.json must be from one tokenizer',
		});
	};
	return {
		added_tokens: [],
		normalizer: {
			type: 'Sequence',
			normalizers: [{ type: 'NFC' }, { type: 'Replace', pattern: { Regex: '\\s+' }, content: ' ' }, { type: 'Lowercase' }],
		},
		pre_tokenizer: {
			type: 'Sequence',
			pretokenizers: [
				{ type: 'Split', pattern: { Regex: words }, behavior: 'Removed', invert: true },
				{ type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false },
			],
		},
		model: {
			type: 'BPE',
			vocab,
			merges,
			end_of_word_suffix: '</w>',
			continuing_subword_prefix: '',
			unk_token: unk.content,
			fuse_unk: false,
		},
		post_processor: {
			type: 'RobertaProcessing',
			cls: end(bos.content),
			sep: end(eos.content),
			add_prefix_space: false,
			trim_offsets: false,
		},
		decoder: { type: 'ByteLevel' },
	};
}

async function readVocabulary(path: string): Promise<Record<string, number>> {
	const vocab = await readJsonObject(path);
	const wrong = Object.entries(vocab).find(([, id]) => !Number.isSafeInteger(id) || (id as number) < 0);
	if (wrong) {
		throw new DiffusionPipeError('input', `the id of ${JSON.stringify(wrong[0])} is malformed`, {
			place: path,
			expected: 'a whole number from 0',
			found: JSON.stringify(wrong[1]),
		});
	}
	return vocab as Record<string, number>;
}

async function readMerges(path: string, vocab: Readonly<Record<string, number>>): Promise<[string, string][]> {
	let text: string;
	try {
		text = await readFile(path, 'utf8');
	} catch (error) {
		throw fileError(path, 'read', error);
	}
	const merges: [string, string][] = [];
	for (const [i, line] of text.split(/\r?\n/).entries()) {
		if (line === '' || (i === 0 && line.startsWith('#version'))) continue;
		const [left, right, ...rest] = line.split(' ');
		if (!left || !right || rest.length > 0 || !Object.hasOwn(vocab, left + right)) {
			throw new DiffusionPipeError('input', 'the merge is malformed', {
				place: `${path}, line ${i + 1}`,
				expected: 'two pieces parted by a space, which joined are in vocab.json',
				found: JSON.stringify(line.slice(0, 80)),
			});
		}
		merges.push([left, right]);
	}
	return merges;
}
