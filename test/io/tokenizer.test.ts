/** @file Tokenizers from small vocabularies in the published file formats; the ids expected are derived by hand from the formats' rules. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DiffusionPipeError } from '../../src/core/errors.ts';
import { toNumbers } from '../../src/core/tensor.ts';
import { bytesField, encodeMessage, floatField, intField, messageField, type OutField, stringField } from '../../src/graph/onnx/wire.ts';
import { type EncodedTexts, openTokenizer } from '../../src/io/tokenizer.ts';

let dir = '';
beforeEach(() => {
	dir = mkdtempSync(join(tmpdir(), 'tokenizer-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const write = (files: Readonly<Record<string, unknown>>): string => {
	for (const [name, content] of Object.entries(files)) {
		writeFileSync(join(dir, name), typeof content === 'string' || content instanceof Uint8Array ? content : JSON.stringify(content));
	}
	return dir;
};
const rows = ({ inputIds }: EncodedTexts): number[][] => {
	const [count, width] = inputIds.shape as [number, number];
	const all = toNumbers(inputIds);
	return Array.from({ length: count }, (_, r) => all.slice(r * width, (r + 1) * width));
};
const errorOf = async (work: Promise<unknown>, kind = 'input'): Promise<string> => {
	const error = await work.catch((e: unknown) => e);
	expect(error).toBeInstanceOf(DiffusionPipeError);
	expect((error as DiffusionPipeError).kind).toBe(kind);
	return (error as DiffusionPipeError).message;
};

describe('CLIP', () => {
	/** Bytes as CLIP writes them (é is the two bytes C3 A9), each also as the end of a word, then what the merges make, then the special tokens. */
	const letters = [...'!', ...'lowern12', "'", 's', 'Ã', '©'];
	const merges = ['l o', 'lo w</w>', 'e r</w>', 'lo w', 'low er</w>', 'n e', 'ne w</w>', "' s</w>"];
	const pieces = [
		...letters,
		...letters.map((c) => `${c}</w>`),
		...merges.map((m) => m.replace(' ', '')),
		'<|startoftext|>',
		'<|endoftext|>',
	];
	const vocab = Object.fromEntries(pieces.map((p, id) => [p, id]));
	const id = (piece: string): number => {
		expect(vocab).toHaveProperty([piece]);
		return vocab[piece]!;
	};
	const [bos, eos] = [id('<|startoftext|>'), id('<|endoftext|>')];
	const config = { tokenizer_class: 'CLIPTokenizer', model_max_length: 8, pad_token: '<|endoftext|>' };
	const clip = (more: Readonly<Record<string, unknown>> = {}): string =>
		write({ 'vocab.json': vocab, 'merges.txt': `#version: 0.2\n${merges.join('\n')}\n`, 'tokenizer_config.json': config, ...more });
	const encode = async (text: string) =>
		rows((await openTokenizer(dir)).encode([text], { maxLength: 77, padding: 'longest' }))[0]!.slice(1, -1);

	it('joins pairs in the order of merges.txt, the end of a word marked', async () => {
		clip();
		expect(await encode('low')).toEqual([id('low</w>')]);
		expect(await encode('lower')).toEqual([id('lower</w>')]);
		// "n e" joins before "ne w</w>" could, but this w does not end the word.
		expect(await encode('newer')).toEqual(['ne', 'w', 'er</w>'].map(id));
		expect(await encode('new')).toEqual([id('new</w>')]);
	});

	it('lower-cases, cleans blanks, composes accents', async () => {
		clip();
		const plain = await encode('lower new');
		expect(await encode(' \t LOWER\n\u00a0 New ')).toEqual(plain);
		expect(await encode('\u00e9')).toEqual([id('Ã'), id('©</w>')]);
		expect(await encode('E\u0301')).toEqual([id('Ã'), id('©</w>')]);
	});

	it('parts contractions, single digits and runs of other characters', async () => {
		clip();
		expect(await encode("low's 12!!")).toEqual(['low</w>', "'s</w>", '1</w>', '2</w>', '!', '!</w>'].map(id));
	});

	it('takes special tokens in the text as one, and unknown characters as the unknown token', async () => {
		clip();
		expect(await encode('low<|endoftext|>low')).toEqual([id('low</w>'), eos, id('low</w>')]);
		expect(await encode('z')).toEqual([eos]);
	});

	it('adds start and end, pads to its length, and cuts before the end token', async () => {
		const tokenizer = await openTokenizer(clip());
		expect(tokenizer.maxLength).toBe(8);
		expect(tokenizer.vocabularySize).toBe(pieces.length);
		expect(tokenizer.special).toEqual({ bos, eos, unk: eos, pad: eos });
		const encoded = tokenizer.encode(['low', 'new new new new new new new', '']);
		const [low, fresh] = [id('low</w>'), id('new</w>')];
		expect(encoded.inputIds.shape).toEqual([3, 8]);
		expect(rows(encoded)).toEqual([
			[bos, low, eos, eos, eos, eos, eos, eos],
			[bos, fresh, fresh, fresh, fresh, fresh, fresh, eos],
			[bos, eos, eos, eos, eos, eos, eos, eos],
		]);
		expect(toNumbers(encoded.attentionMask)).toEqual([
			...[1, 1, 1, 0, 0, 0, 0, 0],
			...[1, 1, 1, 1, 1, 1, 1, 1],
			...[1, 1, 0, 0, 0, 0, 0, 0],
		]);
		expect(encoded.truncated).toEqual([1]);
		expect(rows(tokenizer.encode(['low', 'low low'], { padding: 'longest' }))).toEqual([
			[bos, low, eos, eos],
			[bos, low, low, eos],
		]);
	});

	it('refuses what does not fit when it may not cut, and lengths that hold no text', async () => {
		const tokenizer = await openTokenizer(clip());
		expect(() => tokenizer.encode(['low low low'], { maxLength: 4, truncation: false })).toThrow(
			/text 0 is too long[\s\S]*at most 4[\s\S]*5 tokens/,
		);
		expect(() => tokenizer.encode(['low'], { maxLength: 2 })).toThrow(/above 2/);
		expect(() => tokenizer.encode(['low'], { maxLength: 7.5 })).toThrow(/whole number/);
	});

	it('takes the pad token of special_tokens_map.json from older folders, that of tokenizer_config.json from newer ones', async () => {
		const map = { pad_token: '!', eos_token: { content: '<|endoftext|>', normalized: true } };
		expect((await openTokenizer(clip({ 'special_tokens_map.json': map }))).special.pad).toBe(id('!'));
		// Being special, "!" is no longer the end of a word.
		expect(await encode('low!')).toEqual([id('low</w>'), id('!')]);
		const decoder = { [eos]: { content: '<|endoftext|>', special: true } };
		clip({ 'special_tokens_map.json': map, 'tokenizer_config.json': { ...config, added_tokens_decoder: decoder } });
		expect((await openTokenizer(dir)).special.pad).toBe(eos);
	});

	it('says which file and line is wrong', async () => {
		clip({ 'merges.txt': '#version: 0.2\nl o\nlo x\n' });
		expect(await errorOf(openTokenizer(dir))).toMatch(/merges\.txt, line 3: the merge is malformed[\s\S]*"lo x"/);
		clip({ 'vocab.json': { ...vocab, low: 'five' } });
		expect(await errorOf(openTokenizer(dir))).toMatch(/vocab\.json: the id of "low" is malformed/);
		clip({ 'vocab.json': '{' });
		expect(await errorOf(openTokenizer(dir))).toMatch(/vocab\.json: is not JSON/);
		clip({ 'special_tokens_map.json': { bos_token: '<s>' } });
		expect(await errorOf(openTokenizer(dir))).toMatch(/"<s>" is missing/);
		clip({ 'special_tokens_map.json': { pad_token: 'PAD' } });
		expect(await errorOf(openTokenizer(dir))).toMatch(/pad_token "PAD" is not in the vocabulary/);
		clip({ 'special_tokens_map.json': { pad_token: 3 } });
		expect(await errorOf(openTokenizer(dir))).toMatch(/pad_token is malformed/);
		clip({ 'special_tokens_map.json': {}, 'tokenizer_config.json': { ...config, padding_side: 'left' } });
		expect(await errorOf(openTokenizer(dir))).toMatch(/padding_side is not supported/);
		clip({ 'tokenizer_config.json': { tokenizer_class: 'GPT2Tokenizer' } });
		expect(await errorOf(openTokenizer(dir))).toMatch(/GPT2Tokenizer cannot be read without/);
		clip();
		rmSync(join(dir, 'merges.txt'));
		expect(await errorOf(openTokenizer(dir))).toMatch(/not complete[\s\S]*merges\.txt/);
	});
});

describe('T5', () => {
	const kinds = { normal: 1, unknown: 2, control: 3, userDefined: 4 };
	const entries: readonly (readonly [string, number, keyof typeof kinds])[] = [
		['<pad>', 0, 'control'],
		['</s>', 0, 'control'],
		['<unk>', 0, 'unknown'],
		['▁', -2, 'normal'],
		['▁low', -3, 'normal'],
		['er', -2.5, 'normal'],
		['▁new', -4, 'normal'],
		['▁n', -3, 'normal'],
		['ewer', -3, 'normal'],
		['e', -2, 'normal'],
		['w', -2, 'normal'],
		['[x]', 0, 'userDefined'],
	];
	const id = (piece: string): number => {
		const found = entries.findIndex(([p]) => p === piece);
		expect(found).toBeGreaterThan(-1);
		return found;
	};
	const piece = ([text, score, kind]: (typeof entries)[number]): OutField =>
		messageField(1, [stringField(1, text), floatField(2, score), ...(kind === 'normal' ? [] : [intField(3, kinds[kind])])]);
	const trainer = (...fields: OutField[]) => messageField(2, [intField(3, 1), stringField(2, 'spm'), intField(40, 2), ...fields]);
	const normalizer = (...fields: OutField[]) =>
		messageField(3, [stringField(1, 'nmt_nfkc'), bytesField(2, Uint8Array.of(1, 2, 3)), ...fields]);
	const model = (...fields: OutField[]): Uint8Array => encodeMessage([...entries.map(piece), ...fields]);
	const t5 = (more: Readonly<Record<string, unknown>> = {}): string =>
		write({
			'spiece.model': model(trainer(), normalizer()),
			'tokenizer_config.json': { tokenizer_class: 'T5Tokenizer', model_max_length: 1e30, extra_ids: 2 },
			...more,
		});
	const encode = async (text: string) => rows((await openTokenizer(dir)).encode([text], { maxLength: 40, padding: 'longest' }))[0]!;

	it('takes the likeliest split and ends with </s>', async () => {
		t5();
		expect(await encode('low lower')).toEqual([id('▁low'), id('▁low'), id('er'), 1]);
		// ▁n + ewer costs 6, ▁new + er 6.5, ▁n + e + w + er 9.5.
		expect(await encode('newer')).toEqual([id('▁n'), id('ewer'), 1]);
		expect(await encode('new')).toEqual([id('▁new'), 1]);
	});

	it('splits as SentencePiece does', async () => {
		const fixtures = new URL('../fixtures/tokenizers/sentencepiece/', import.meta.url).pathname;
		const cases = JSON.parse(readFileSync(join(fixtures, 'cases.json'), 'utf8')) as { text: string; ids: number[] }[];
		const encoded = (await openTokenizer(fixtures)).encode(
			cases.map(({ text }) => text),
			{ maxLength: 60 },
		);
		expect(rows(encoded)).toEqual(cases.map(({ ids }) => [...ids, 1, ...new Array<number>(59 - ids.length).fill(0)]));
	});

	it('cleans blanks and composes characters as SentencePiece does', async () => {
		t5();
		expect(await encode('  low \t  new ')).toEqual([id('▁low'), id('▁new'), 1]);
		expect(await encode('ｌｏｗ')).toEqual([id('▁low'), 1]);
		expect(await encode('   ')).toEqual([1]);
	});

	it('makes one unknown token of characters it does not know that follow each other', async () => {
		t5();
		expect(await encode('lowzzz new')).toEqual([id('▁low'), 2, id('▁new'), 1]);
	});

	it('takes control, user-defined and extra tokens in the text as one', async () => {
		const tokenizer = await openTokenizer(t5());
		expect(tokenizer.vocabularySize).toBe(entries.length + 2);
		expect(tokenizer.special).toEqual({ eos: 1, unk: 2, pad: 0 });
		expect(tokenizer.maxLength).toBeUndefined();
		expect(await encode('[x]<extra_id_0><extra_id_1>')).toEqual([id('[x]'), entries.length + 1, entries.length, 1]);
	});

	it('puts a blank after tokens in the text only as older versions did', async () => {
		t5();
		expect(await encode('[x]er')).toEqual([id('[x]'), id('▁'), id('er'), 1]);
		t5({ 'tokenizer_config.json': { legacy: false } });
		expect(await encode('[x]er')).toEqual([id('[x]'), id('er'), 1]);
	});

	it('pads with <pad> and cuts before </s>', async () => {
		const tokenizer = await openTokenizer(t5());
		const encoded = tokenizer.encode(['low', 'low low low low'], { maxLength: 4 });
		expect(rows(encoded)).toEqual([
			[4, 1, 0, 0],
			[4, 4, 4, 1],
		]);
		expect(toNumbers(encoded.attentionMask)).toEqual([1, 1, 0, 0, 1, 1, 1, 1]);
		expect(encoded.truncated).toEqual([1]);
		expect(() => tokenizer.encode(['low'])).toThrow(/no length of its own/);
	});

	it('takes ids of added tokens from the folder where it has them', async () => {
		t5({ 'added_tokens.json': { '<extra_id_0>': 40 } });
		expect((await openTokenizer(dir)).vocabularySize).toBe(41);
		expect(await encode('<extra_id_0>')).toEqual([40, 1]);
		write({ 'added_tokens.json': { '<extra_id_0>': 'x' } });
		expect(await errorOf(openTokenizer(dir))).toMatch(/added_tokens\.json: an added token is malformed/);
	});

	it('refuses damaged files and other kinds of models', async () => {
		t5({ 'spiece.model': model(trainer(), normalizer()).subarray(0, 60) });
		expect(await errorOf(openTokenizer(dir))).toMatch(/spiece\.model, byte \d+/);
		t5({ 'spiece.model': model(trainer(intField(3, 2))) });
		expect(await errorOf(openTokenizer(dir))).toMatch(/not supported[\s\S]*found: bpe[\s\S]*tokenizer\.json/);
		t5({ 'spiece.model': encodeMessage([piece(entries[3]!), trainer(intField(40, 0))]) });
		expect(await errorOf(openTokenizer(dir))).toMatch(/not a SentencePiece model/);
		t5({ 'spiece.model': '' });
		expect(await errorOf(openTokenizer(dir))).toMatch(/not a SentencePiece model/);
	});
});

describe('tokenizer.json', () => {
	const json = {
		version: '1.0',
		added_tokens: [
			{ id: 0, content: '<pad>', single_word: false, lstrip: false, rstrip: false, normalized: false, special: true },
			{ id: 1, content: '</s>', single_word: false, lstrip: false, rstrip: false, normalized: false, special: true },
		],
		normalizer: null,
		pre_tokenizer: {
			type: 'Sequence',
			pretokenizers: [{ type: 'WhitespaceSplit' }, { type: 'Metaspace', replacement: '▁', add_prefix_space: true }],
		},
		post_processor: {
			type: 'TemplateProcessing',
			single: [{ Sequence: { id: 'A', type_id: 0 } }, { SpecialToken: { id: '</s>', type_id: 0 } }],
			pair: [{ Sequence: { id: 'A', type_id: 0 } }, { SpecialToken: { id: '</s>', type_id: 0 } }],
			special_tokens: { '</s>': { id: '</s>', ids: [1], tokens: ['</s>'] } },
		},
		decoder: { type: 'Metaspace', replacement: '▁', add_prefix_space: true },
		model: {
			type: 'Unigram',
			unk_id: 2,
			vocab: [
				['<pad>', 0],
				['</s>', 0],
				['<unk>', 0],
				['▁low', -1],
				['er', -1],
			],
		},
	};

	it('is preferred to other files', async () => {
		write({ 'tokenizer.json': json, 'tokenizer_config.json': { pad_token: '<pad>', model_max_length: 5 }, 'spiece.model': 'not read' });
		const tokenizer = await openTokenizer(dir);
		expect(rows(tokenizer.encode(['low lower', 'low']))).toEqual([
			[3, 3, 4, 1, 0],
			[3, 1, 0, 0, 0],
		]);
		expect(tokenizer.special).toEqual({ pad: 0 });
	});

	it('takes special tokens from the class where no file names them, and needs none for texts of one length', async () => {
		write({ 'tokenizer.json': json });
		const bare = await openTokenizer(dir);
		expect(rows(bare.encode(['low', 'x'], { padding: 'longest' }))).toEqual([
			[3, 1],
			[2, 1],
		]);
		expect(() => bare.encode(['low', 'low low'], { padding: 'longest' })).toThrow(/no pad_token/);
		write({ 'tokenizer_config.json': { tokenizer_class: 'T5TokenizerFast' } });
		expect((await openTokenizer(dir)).special).toEqual({ eos: 1, unk: 2, pad: 0 });
	});

	it('says what is malformed', async () => {
		write({ 'tokenizer.json': { version: '1.0' } });
		expect(await errorOf(openTokenizer(dir))).toMatch(/tokenizer\.json: this is not a tokenizer\.json/);
		write({ 'tokenizer.json': { ...json, model: { type: 'Nothing', vocab: 3 } } });
		expect(await errorOf(openTokenizer(dir))).toMatch(/model\.vocab is malformed/);
		write({ 'tokenizer.json': { ...json, model: { type: 'BPE', vocab: {} } } });
		expect(await errorOf(openTokenizer(dir))).toMatch(/tokenizer\.json: the tokenizer cannot be built/);
		write({ 'tokenizer.json': { ...json, normalizer: { type: 'Unheard' } } });
		expect(await errorOf(openTokenizer(dir))).toMatch(/cannot be built[\s\S]*Unheard/);
		write({ 'tokenizer.json': { ...json, added_tokens: [{ content: 'x' }] } });
		expect(await errorOf(openTokenizer(dir))).toMatch(/added token 0 is malformed/);
		write({
			'tokenizer.json': {
				...json,
				post_processor: { ...json.post_processor, single: [{ Sequence: { id: 'A' } }, { SpecialToken: { id: '[SEP]' } }] },
			},
		});
		expect(await errorOf(openTokenizer(dir))).toMatch(/post_processor adds "\[SEP\]"/);
	});
});

it('names the folder that is missing or holds no tokenizer', async () => {
	expect(await errorOf(openTokenizer(join(dir, 'none')))).toMatch(/none: cannot open the tokenizer folder/);
	expect(await errorOf(openTokenizer(dir))).toMatch(/an empty folder/);
	write({ 'model_index.json': {} });
	expect(await errorOf(openTokenizer(dir))).toMatch(/this is a pipeline: give its tokenizer/);
});
