/** @file The list of emoji with their names, categories and image files, and the part of each that is held out. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { DiffusionPipeError, nearestName } from '../../core/errors.ts';
import { randomStream } from '../../core/random.ts';
import { fileError } from '../../io/file-error.ts';
import { readJson } from '../../io/json-file.ts';
import { packageFolder } from './package-file.ts';

/** Who drew it: two flat styles, and a shaded one. */
export type EmojiStyle = 'twitter' | 'fluent' | 'google';

/** One image of an emoji. */
export interface Emoji {
	/** As `twitter/1f34b`. */
	readonly name: string;
	readonly path: string;
	/** The Unicode name in lower case, without skin tone. */
	readonly title: string;
	/** As `dark skin tone`, or ''. */
	readonly skin: string;
	readonly style: EmojiStyle;
	readonly category: string;
	/** Code points without variation selectors and skin tones: the same for all images of one emoji. */
	readonly base: string;
	readonly heldOut: boolean;
}

/** Which emoji to list. */
export interface EmojiSelection {
	readonly styles: readonly EmojiStyle[];
	/** Only these; otherwise all but skin tone swatches, and flags unless `flags`. */
	readonly categories: readonly string[] | undefined;
	readonly flags: boolean;
	readonly skins: boolean;
}

/** What a selection gives. */
export interface EmojiList {
	readonly emoji: readonly Emoji[];
	/** The categories selected, sorted. */
	readonly classes: readonly string[];
	/** Emoji that a style asked for does not draw. */
	readonly missing: readonly Pick<Emoji, 'title' | 'skin' | 'style'>[];
}

/** A package with the pictures of a style. */
interface Drawings {
	readonly package: string;
	readonly version: string;
	/** Folder of the pictures in the package. */
	readonly folder: string;
	readonly ending: string;
}

const drawings: Readonly<Record<EmojiStyle, Drawings>> = {
	twitter: { package: 'emoji-datasource-twitter', version: '16.0.0', folder: join('img', 'twitter', '64'), ending: '.png' },
	fluent: { package: '@lobehub/fluent-emoji-3d', version: '1.1.0', folder: 'assets', ending: '.webp' },
	google: { package: 'emoji-datasource-google', version: '16.0.0', folder: join('img', 'google', '64'), ending: '.png' },
};

const codes = { unified: v.string(), non_qualified: v.nullable(v.string()) };
const entrySchema = v.object({
	...codes,
	name: v.string(),
	category: v.string(),
	skin_variations: v.optional(v.record(v.string(), v.object(codes)), {}),
});
type Codes = v.InferOutput<v.ObjectSchema<typeof codes, undefined>>;
type Entry = v.InferOutput<typeof entrySchema>;

/** Names of the modifiers in the Unicode CLDR. */
const skinTones: Readonly<Record<string, string>> = {
	'1F3FB': 'light',
	'1F3FC': 'medium-light',
	'1F3FD': 'medium',
	'1F3FE': 'medium-dark',
	'1F3FF': 'dark',
};

/**
 * Lists the emoji selected, by code point, style by style.
 * @throws DiffusionPipeError when a package is missing or damaged, or a category does not exist
 */
export async function listEmoji({ styles, categories, flags, skins }: EmojiSelection): Promise<EmojiList> {
	const folderOf = (style: EmojiStyle) => packageFolder(drawings[style].package, drawings[style].version);
	const entries = await readEntries(join(folderOf('twitter'), 'emoji.json'));
	const classes = chooseCategories(entries, categories, flags);
	const emoji: Emoji[] = [];
	const missing: Pick<Emoji, 'title' | 'skin' | 'style'>[] = [];
	for (const style of styles) {
		const folder = join(folderOf(style), drawings[style].folder);
		const files = await fileNames(folder);
		for (const entry of entries) {
			if (!classes.includes(entry.category)) continue;
			const base = entry.unified.replaceAll('-FE0F', '');
			const title = entry.name.toLowerCase();
			const heldOut = isHeldOut(base);
			const variants: [string, Codes][] = [['', entry], ...(skins ? Object.entries(entry.skin_variations) : [])];
			for (const [tones, code] of variants) {
				const skin = skinName(tones);
				const file = fileOf(code, drawings[style].ending, files);
				if (file === undefined) missing.push({ title, skin, style });
				else {
					const name = `${style}/${code.unified.toLowerCase()}`;
					emoji.push({ name, path: join(folder, file), title, skin, style, category: entry.category, base, heldOut });
				}
			}
		}
	}
	return { emoji, classes, missing };
}

/** True for one base emoji in ten, by its code points alone: nothing trained on in one selection is held out in another. */
function isHeldOut(base: string): boolean {
	return randomStream(0, `emoji ${base}`).uniform(0, 0) < 0.1;
}

/** The packages differ in whether variation selectors are written in file names. */
function fileOf({ unified, non_qualified }: Codes, ending: string, files: ReadonlySet<string>): string | undefined {
	return [unified, non_qualified ?? unified, unified.replaceAll('-FE0F', '')]
		.map((code) => code.toLowerCase() + ending)
		.find((name) => files.has(name));
}

/** '1F3FB-1F3FF' to 'light and dark skin tone'. */
function skinName(tones: string): string {
	if (tones === '') return '';
	const names = tones.split('-').map((tone) => skinTones[tone] ?? tone.toLowerCase());
	return `${[...new Set(names)].join(' and ')} skin tone`;
}

function chooseCategories(entries: readonly Entry[], wanted: readonly string[] | undefined, flags: boolean): string[] {
	const all = [...new Set(entries.map((entry) => entry.category))].sort();
	if (wanted === undefined) return all.filter((category) => category !== 'Component' && (flags || category !== 'Flags'));
	for (const category of wanted) {
		if (all.includes(category)) continue;
		const near = nearestName(category, all);
		throw new DiffusionPipeError('config', 'no such category', {
			place: 'data.categories',
			expected: all.join(', '),
			found: category,
			...(near === undefined ? {} : { hint: near }),
		});
	}
	return all.filter((category) => wanted.includes(category));
}

async function readEntries(path: string): Promise<Entry[]> {
	const result = v.safeParse(v.array(entrySchema), await readJson(path));
	if (result.success) return result.output.sort((a, b) => (a.unified < b.unified ? -1 : 1));
	throw new DiffusionPipeError('input', 'is not the list of emoji expected', {
		place: path,
		found: v.getDotPath(result.issues[0]) ?? result.issues[0].message,
		hint: 'npm install emoji-datasource-twitter@16.0.0',
	});
}

async function fileNames(folder: string): Promise<Set<string>> {
	try {
		return new Set(await readdir(folder));
	} catch (error) {
		throw fileError(folder, 'list', error);
	}
}
