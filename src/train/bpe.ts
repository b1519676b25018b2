/** @file Makes tokenizers of CLIP's kind for a collection of texts: byte-pair merges learned from it (Sennrich et al., 1508.07909), and their folder. */
import { join } from 'node:path';
import { writeFolderAtomic, writeWhole } from '../io/atomic.ts';
import { writeJson } from '../io/json-file.ts';

/** A vocabulary as `vocab.json` and `merges.txt` hold it. */
export interface BytePairs {
	/** Ids by token: the 256 bytes, the 256 bytes that end a word, the merges in their order, the two special tokens. */
	readonly vocab: Readonly<Record<string, number>>;
	readonly merges: readonly (readonly [string, string])[];
}

const [startToken, endToken] = ['<|startoftext|>', '<|endoftext|>'];
const wordEnd = '</w>';

/** What CLIP takes for words: contractions, runs of letters, single digits, runs of anything else but blanks. */
const words = /'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+/gu;

/** Byte-level vocabularies write each byte as one printable character: itself where Latin-1 has one, else the next free one from U+0100 on. */
const byteCharacters: readonly string[] = (() => {
	const printable = (b: number) => (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
	let next = 0x100;
	return Array.from({ length: 256 }, (_, b) => String.fromCharCode(printable(b) ? b : next++));
})();

/**
 * Learns up to `count` merges from `texts`: again and again the pair of neighbouring pieces that occurs most often (the first in the order of
 * strings among equals) becomes one piece, until no pair occurs `leastCount` times.
 */
export function learnBytePairs(texts: Iterable<string>, count: number, leastCount = 2): BytePairs {
	const counts = new Map<string, number>();
	for (const text of texts) {
		for (const [word] of text.normalize('NFC').toLowerCase().matchAll(words)) counts.set(word, (counts.get(word) ?? 0) + 1);
	}
	const entries = [...counts].map(([word, times]) => ({ pieces: piecesOf(word), times }));
	const merges: (readonly [string, string])[] = [];
	while (merges.length < count) {
		const best = commonestPair(entries, leastCount);
		if (best === undefined) break;
		merges.push(best);
		for (const entry of entries) entry.pieces = merged(entry.pieces, best);
	}
	const joined = merges.map(([left, right]) => left + right);
	const tokens = [...byteCharacters, ...byteCharacters.map((c) => c + wordEnd), ...new Set(joined), startToken, endToken];
	return { vocab: Object.fromEntries(tokens.map((token, id) => [token, id])), merges };
}

function piecesOf(word: string): string[] {
	const pieces = [...new TextEncoder().encode(word)].map((byte) => byteCharacters[byte]!);
	pieces.push(pieces.pop()! + wordEnd);
	return pieces;
}

function commonestPair(
	entries: readonly { readonly pieces: readonly string[]; readonly times: number }[],
	leastCount: number,
): readonly [string, string] | undefined {
	const pairs = new Map<string, number>();
	for (const { pieces, times } of entries) {
		for (let i = 1; i < pieces.length; i++) {
			// No piece holds a blank.
			const pair = `${pieces[i - 1]} ${pieces[i]}`;
			pairs.set(pair, (pairs.get(pair) ?? 0) + times);
		}
	}
	let best: string | undefined;
	let most = leastCount - 1;
	for (const [pair, times] of pairs) {
		if (times > most || (times === most && best !== undefined && pair < best)) [best, most] = [pair, times];
	}
	return best?.split(' ') as [string, string] | undefined;
}

function merged(pieces: readonly string[], [left, right]: readonly [string, string]): string[] {
	const out: string[] = [];
	for (let i = 0; i < pieces.length; i++) {
		if (pieces[i] === left && pieces[i + 1] === right) out.push(left + pieces[++i]);
		else out.push(pieces[i]!);
	}
	return out;
}

/** Writes a tokenizer folder as transformers saves a CLIPTokenizer, for texts of up to `maxLength` tokens. An existing folder is replaced. */
export async function writeClipTokenizer(folder: string, { vocab, merges }: BytePairs, maxLength: number): Promise<void> {
	const special = { bos_token: startToken, eos_token: endToken, unk_token: endToken, pad_token: endToken };
	await writeFolderAtomic(
		folder,
		async (dir) => {
			await writeWhole(join(dir, 'vocab.json'), `${JSON.stringify(vocab)}\n`);
			await writeWhole(join(dir, 'merges.txt'), ['#version: 0.2', ...merges.map((pair) => pair.join(' ')), ''].join('\n'));
			await writeJson(join(dir, 'special_tokens_map.json'), special);
			await writeJson(join(dir, 'tokenizer_config.json'), {
				...special,
				do_lower_case: true,
				model_max_length: maxLength,
				tokenizer_class: 'CLIPTokenizer',
			});
		},
		{ replace: true },
	);
}
