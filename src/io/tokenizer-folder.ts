/** @file Tokenizer folders as diffusers and transformers save them: which files there are, and what they say of special tokens. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { DiffusionPipeError } from '../core/errors.ts';
import { fileError } from './file-error.ts';
import { readJsonObject } from './json-file.ts';
import { clipSpecialTokens, readClipTokenizer } from './tokenizer-clip.ts';
import {
	type AddedToken,
	type AddedTokenForm,
	type Component,
	type SpecialTokens,
	specialToken,
	type TokenizerJson,
} from './tokenizer-json.ts';
import { readT5Tokenizer, t5SpecialTokens } from './tokenizer-t5.ts';

/** Everything a tokenizer is made of. */
export interface TokenizerFolder {
	readonly json: TokenizerJson;
	/** The content of tokenizer_config.json; empty when there is none. */
	readonly config: Readonly<Record<string, unknown>>;
	/** Special tokens by role, all of them among `json.added_tokens`. */
	readonly special: { readonly [R in Role]?: AddedToken };
	/** The file the vocabulary is from, for errors. */
	readonly place: string;
}

type Role = keyof SpecialTokens;
const roles: readonly Role[] = ['bos_token', 'eos_token', 'unk_token', 'pad_token'];

/**
 * Reads the tokenizer in `folder`: `tokenizer.json` where there is one, else CLIP's `vocab.json` and `merges.txt`, else T5's `spiece.model`.
 * @throws DiffusionPipeError of kind 'input' naming the file that is missing or malformed
 */
export async function readTokenizerFolder(folder: string): Promise<TokenizerFolder> {
	const names = await listFolder(folder);
	const optional = async (name: string): Promise<Record<string, unknown>> => (names.has(name) ? readJsonObject(join(folder, name)) : {});
	const config = await optional('tokenizer_config.json');
	const map = await optional('special_tokens_map.json');
	const className = typeof config.tokenizer_class === 'string' ? config.tokenizer_class.replace(/Fast$/, '') : undefined;
	for (const side of ['padding_side', 'truncation_side']) {
		if (config[side] !== undefined && config[side] !== 'right') {
			throw new DiffusionPipeError('input', `${side} is not supported`, {
				place: join(folder, 'tokenizer_config.json'),
				expected: '"right"',
				found: JSON.stringify(config[side]),
			});
		}
	}
	// transformers: special_tokens_map.json counts only in folders saved before tokenizer_config.json listed added_tokens_decoder.
	const decoder = config.added_tokens_decoder;
	const named = namedTokens(decoder === undefined ? { ...config, ...map } : { ...map, ...config }, join(folder, 'special_tokens_map.json'));
	const saved = { ...(await savedTokens(folder, names, decoder)) };

	let json: TokenizerJson;
	let defaults: SpecialTokens = {};
	let place = join(folder, 'tokenizer.json');
	if (names.has('tokenizer.json')) {
		json = checkTokenizerJson(await readJsonObject(place), place);
		if (className === 'CLIPTokenizer') defaults = clipSpecialTokens;
		else if (className === 'T5Tokenizer') defaults = t5SpecialTokens;
	} else if (names.has('vocab.json') && names.has('merges.txt') && (className ?? 'CLIPTokenizer') === 'CLIPTokenizer') {
		place = join(folder, 'vocab.json');
		json = await readClipTokenizer(folder, named);
		defaults = clipSpecialTokens;
	} else if (names.has('spiece.model') && (className ?? 'T5Tokenizer') === 'T5Tokenizer') {
		place = join(folder, 'spiece.model');
		const extraIds = typeof config.extra_ids === 'number' ? config.extra_ids : 100;
		json = await readT5Tokenizer(folder, named, {
			legacy: config.legacy !== false,
			extraIds: Object.keys(saved).length > 0 ? 0 : extraIds,
		});
		defaults = t5SpecialTokens;
	} else return noTokenizer(folder, names, className);
	const added = new Map(json.added_tokens.map((t) => [t.content, t]));
	for (const token of Object.values(saved)) if (!added.has(token.content)) added.set(token.content, token);
	const vocabulary = vocabularyOf(json.model, place);
	const special: { -readonly [R in Role]?: AddedToken } = {};
	for (const role of roles) {
		const form = named[role] ?? defaults[role];
		if (!form) continue;
		const id = added.get(form.content)?.id ?? vocabulary.get(form.content);
		if (id !== undefined) {
			special[role] = added.get(form.content) ?? { ...form, id };
			added.set(form.content, special[role]);
		} else if (named[role]) {
			throw new DiffusionPipeError('input', `${role} ${JSON.stringify(form.content)} is not in the vocabulary`, {
				place,
				hint: 'the files of the folder must be from one tokenizer',
			});
		}
	}
	return { json: { ...json, added_tokens: [...added.values()] }, config, special, place };
}

async function listFolder(folder: string): Promise<Set<string>> {
	try {
		return new Set(await readdir(folder));
	} catch (error) {
		throw fileError(folder, 'open the tokenizer folder', error);
	}
}

function noTokenizer(folder: string, names: ReadonlySet<string>, className: string | undefined): never {
	const sorted = [...names].sort();
	const half = names.has('vocab.json') !== names.has('merges.txt');
	const known = className === undefined || ['CLIPTokenizer', 'T5Tokenizer'].includes(className);
	throw new DiffusionPipeError('input', half && known ? 'the vocabulary is not complete' : 'holds no tokenizer that can be read', {
		place: folder,
		expected: known
			? 'tokenizer.json, or vocab.json and merges.txt (CLIP), or spiece.model (T5)'
			: `tokenizer.json, which ${className} cannot be read without`,
		found: sorted.length === 0 ? 'an empty folder' : sorted.slice(0, 10).join(', '),
		hint: names.has('model_index.json')
			? `this is a pipeline: give its tokenizer, as ${join(folder, 'tokenizer')}`
			: 'in Python: AutoTokenizer.from_pretrained(name).save_pretrained(folder)',
	});
}

/** The special tokens that a JSON object names, as strings or as token objects. */
function namedTokens(entries: Readonly<Record<string, unknown>>, place: string): SpecialTokens {
	const found: { -readonly [R in Role]?: AddedTokenForm } = {};
	for (const role of roles) {
		const value = entries[role];
		if (value === undefined || value === null) continue;
		const token = typeof value === 'string' ? specialToken(value) : tokenForm(value);
		if (!token) {
			throw new DiffusionPipeError('input', `${role} is malformed`, {
				place,
				expected: 'a string or an object with "content"',
				found: JSON.stringify(value).slice(0, 80),
			});
		}
		found[role] = { ...token, special: true };
	}
	return found;
}

/** A token object of the format, with its defaults; undefined when it has no content. */
function tokenForm(value: unknown): AddedTokenForm | undefined {
	if (typeof value !== 'object' || value === null || !('content' in value) || typeof value.content !== 'string') return undefined;
	const flags = value as Readonly<Record<string, unknown>>;
	const special = flags.special === true;
	return {
		content: value.content,
		special,
		normalized: typeof flags.normalized === 'boolean' ? flags.normalized : !special,
		lstrip: flags.lstrip === true,
		rstrip: flags.rstrip === true,
		single_word: flags.single_word === true,
	};
}

/** Tokens with ids from `added_tokens_decoder` of tokenizer_config.json, or from the older added_tokens.json, by content. */
async function savedTokens(folder: string, names: ReadonlySet<string>, decoder: unknown): Promise<Record<string, AddedToken>> {
	const tokens: Record<string, AddedToken> = {};
	const fail = (name: string, found: unknown): never => {
		throw new DiffusionPipeError('input', 'an added token is malformed', {
			place: join(folder, name),
			expected: name === 'added_tokens.json' ? '{ token: id }' : 'added_tokens_decoder: { id: { content } }',
			found: JSON.stringify(found)?.slice(0, 80) ?? 'nothing',
		});
	};
	const isId = (id: unknown): id is number => Number.isSafeInteger(id) && (id as number) >= 0;
	if (decoder !== undefined) {
		if (typeof decoder !== 'object' || decoder === null) return fail('tokenizer_config.json', decoder);
		for (const [key, value] of Object.entries(decoder)) {
			const token = tokenForm(value);
			if (!token || !isId(Number(key))) return fail('tokenizer_config.json', { [key]: value });
			tokens[token.content] = { ...token, id: Number(key) };
		}
	} else if (names.has('added_tokens.json')) {
		for (const [content, id] of Object.entries(await readJsonObject(join(folder, 'added_tokens.json')))) {
			if (!isId(id)) return fail('added_tokens.json', { [content]: id });
			tokens[content] = { ...specialToken(content), id };
		}
	}
	return tokens;
}

const isComponent = (value: unknown): value is Component =>
	typeof value === 'object' && value !== null && 'type' in value && typeof value.type === 'string';

function checkTokenizerJson(json: Readonly<Record<string, unknown>>, place: string): TokenizerJson {
	const part = (name: string): Component | null => {
		const value = json[name] ?? null;
		if (value === null || isComponent(value)) return value;
		throw new DiffusionPipeError('input', `${name} is malformed`, { place, expected: 'null or an object with "type"' });
	};
	// Files of the first versions of the format leave the type of the model out.
	if (typeof json.model !== 'object' || json.model === null || !('vocab' in json.model)) {
		throw new DiffusionPipeError('input', 'this is not a tokenizer.json', {
			place,
			expected: 'model: { type, vocab, ... }',
			found: Object.keys(json).join(', ') || 'an empty object',
		});
	}
	const added = json.added_tokens ?? [];
	if (!Array.isArray(added)) throw new DiffusionPipeError('input', 'added_tokens is malformed', { place, expected: 'a list of tokens' });
	return {
		added_tokens: added.map((value: unknown, i): AddedToken => {
			const token = tokenForm(value);
			const id = (value as { id?: unknown } | null)?.id;
			if (token && Number.isSafeInteger(id)) return { ...token, id: id as number };
			throw new DiffusionPipeError('input', `added token ${i} is malformed`, { place, expected: '{ id, content }' });
		}),
		normalizer: part('normalizer'),
		pre_tokenizer: part('pre_tokenizer'),
		model: json.model as unknown as Component,
		post_processor: part('post_processor'),
		decoder: part('decoder'),
	};
}

/** Ids by token of a model's vocabulary: an object, or the list of a unigram model. */
function vocabularyOf({ vocab }: Component, place: string): Map<string, number> {
	if (Array.isArray(vocab)) return new Map(vocab.map((entry: unknown, id) => [Array.isArray(entry) ? String(entry[0]) : '', id]));
	if (typeof vocab === 'object' && vocab !== null) return new Map(Object.entries(vocab as Record<string, number>));
	throw new DiffusionPipeError('input', 'model.vocab is malformed', { place, expected: 'an object or a list' });
}
