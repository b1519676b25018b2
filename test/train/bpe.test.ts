import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { openTokenizer } from '../../src/io/tokenizer.ts';
import { learnBytePairs, writeClipTokenizer } from '../../src/train/bpe.ts';

test('the commonest neighbours are joined first, words end in </w>, and rare pairs are left', () => {
	// 5 x "low", 2 x "lower": l o is in 7 words; then lo w</w> in 5, then w e and e r</w> in 2, of which "e r</w>" stands first.
	const { merges, vocab } = learnBytePairs(['low low low', 'Low  low', 'lower lower'], 10);
	expect(merges).toEqual([
		['l', 'o'],
		['lo', 'w</w>'],
		['e', 'r</w>'],
		['lo', 'w'],
		['low', 'er</w>'],
	]);
	expect(Object.keys(vocab)).toHaveLength(512 + 5 + 2);
	expect(vocab['<|startoftext|>']).toBe(517);
	expect(vocab['<|endoftext|>']).toBe(518);
	expect([...new Set(Object.values(vocab))].sort((a, b) => a - b)).toEqual(Array.from({ length: 519 }, (_, i) => i));
	expect(learnBytePairs(['ab'], 10).merges).toEqual([]);
	expect(learnBytePairs(['ab'], 10, 1).merges).toEqual([['a', 'b</w>']]);
	expect(learnBytePairs(['low low'], 1).merges).toHaveLength(1);
});

test('the folder opens as a CLIP tokenizer, which knows the words it was made for and spells all others', async () => {
	const folder = await mkdtemp(join(tmpdir(), 'bpe-'));
	try {
		const bytePairs = learnBytePairs(['grinning face', 'smiling face', "chef's grinning cat", 'squared cool 100%'], 200, 1);
		await writeClipTokenizer(join(folder, 'tokenizer'), bytePairs, 12);
		const tokenizer = await openTokenizer(join(folder, 'tokenizer'));
		expect(tokenizer.maxLength).toBe(12);
		const { vocab } = bytePairs;
		const [start, end] = [vocab['<|startoftext|>']!, vocab['<|endoftext|>']!];
		const ids = (text: string) => [...tokenizer.encode([text]).inputIds.data].map(Number);
		const padding = (n: number) => new Array<number>(n).fill(end);
		expect(ids('Grinning  FACE')).toEqual([start, vocab['grinning</w>'], vocab['face</w>'], ...padding(9)]);
		expect(ids("chef's 10")).toEqual([start, vocab['chef</w>'], vocab["'s</w>"], vocab['1</w>'], vocab['0</w>'], ...padding(7)]);
		// "é" is the bytes C3 A9, written as the characters of those numbers.
		expect(ids('é')).toEqual([start, vocab.Ã, vocab['©</w>'], ...padding(9)]);
		expect((await readFile(join(folder, 'tokenizer', 'merges.txt'), 'utf8')).startsWith('#version')).toBe(true);
	} finally {
		await rm(folder, { recursive: true });
	}
});
