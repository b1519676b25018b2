/**
 * @file Captioned emoji in three styles: the flat drawings of `emoji-datasource-twitter` and `emoji-datasource-google`, and the shaded ones of
 * `@lobehub/fluent-emoji-3d`, joined by code point.
 */
import { readFile } from 'node:fs/promises';
import * as v from 'valibot';
import { DiffusionPipeError } from '../../core/errors.ts';
import { fileError } from '../../io/file-error.ts';
import { decodeImage } from './decode-image.ts';
import { edgeMap } from './edges.ts';
import { type Emoji, type EmojiSelection, type EmojiStyle, listEmoji } from './emoji-list.ts';
import { parseOptions, pixels, split } from './options.ts';
import type { DataSet } from './types.ts';

/** Options of the `emoji` data set. */
export const emojiOptions = v.strictObject({
	type: v.literal('emoji'),
	/**
	 * `twitter` is flat, `fluent` shaded; `both` has every emoji once in each of these two that draws it. `google` is flat too, by another hand: for
	 * evaluation on a style never trained on.
	 */
	style: v.optional(v.picklist(['twitter', 'fluent', 'both', 'google']), 'twitter'),
	/** One emoji in ten, chosen by its code point and so the same in all styles and skin tones, is held out. */
	split,
	/** Height and width in pixels. */
	size: v.optional(pixels, 32),
	/** Only these categories, as `Food & Drink`. Default all but flags and the swatches of skin tones. */
	categories: v.optional(v.array(v.string())),
	/** Take flags too, when `categories` is not given: 270 of 1,911, hard to tell apart when small. */
	flags: v.optional(v.boolean(), false),
	/** Take skin tone variants too: they double the number without adding motifs. */
	skins: v.optional(v.boolean(), false),
	/** `edges`: every picture comes with the map of its edges (see `edgeMap`), for ControlNets. */
	conditioning_image: v.optional(v.picklist(['edges'])),
});

/** Options of the `emoji` data set, as a user gives them. */
export type EmojiOptions = v.InferInput<typeof emojiOptions>;

const licences: Record<EmojiStyle, string> = {
	twitter:
		'Twemoji: (c) Twitter, Inc. and other contributors, CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/); ' +
		'names and files from the npm package emoji-datasource-twitter, (c) Cal Henderson, MIT',
	fluent:
		'Fluent Emoji: (c) Microsoft Corporation, MIT; files from the npm package @lobehub/fluent-emoji-3d, (c) LobeHub, MIT; ' +
		'names from the npm package emoji-datasource-twitter, (c) Cal Henderson, MIT',
	google:
		'Noto Emoji: (c) Google LLC, Apache License 2.0 (https://www.apache.org/licenses/LICENSE-2.0); files from the npm package ' +
		'emoji-datasource-google and names from emoji-datasource-twitter, (c) Cal Henderson, MIT',
};

/**
 * Opens the emoji: RGB on white; the label is the category; the caption is the Unicode name in lower case, with the skin tone if it has one and the
 * style if it is not flat: `lemon`, `waving hand sign, dark skin tone`, `lemon, 3d`.
 * @throws DiffusionPipeError when a package is not installed or a category does not exist
 */
export async function openEmoji(options: EmojiOptions): Promise<DataSet> {
	const { size, split, conditioning_image, ...rest } = parseOptions(emojiOptions, options, 'data');
	const { emoji, classes } = await listEmoji(selection(rest));
	const chosen = partOf(emoji, split);
	return {
		name: 'emoji',
		size: chosen.length,
		channels: 3,
		height: size,
		width: size,
		classes,
		conditioned: conditioning_image !== undefined,
		licence: stylesOf(rest.style)
			.map((style) => licences[style])
			.join('\n'),
		nameOf: (index) => chosen[index]!.name,
		async load(index) {
			const one = chosen[index];
			if (one === undefined) {
				throw new DiffusionPipeError('internal', 'no such example', {
					place: 'emoji',
					expected: `0 to ${chosen.length - 1}`,
					found: `${index}`,
				});
			}
			try {
				const image = await decodeImage(await readFile(one.path), { channels: 3, height: size, width: size });
				const example = { name: one.name, image, label: classes.indexOf(one.category), caption: captionOf(one) };
				return conditioning_image === undefined ? example : { ...example, conditioning: edgeMap(image, 3, size, size) };
			} catch (error) {
				throw fileError(one.path, 'decode', error);
			}
		},
	};
}

/** How many emoji some options select. */
export interface EmojiCounts {
	/** Images, both parts of the split together. */
	readonly images: number;
	/** Different emoji, skin tones and styles counted once. */
	readonly base: number;
	readonly train: number;
	readonly heldOut: number;
	/** Images by category. */
	readonly categories: Readonly<Record<string, number>>;
	/** Captions of the emoji that a style asked for does not draw. */
	readonly missing: readonly string[];
}

/** Counts what `options` select, without loading an image. */
export async function emojiCounts(options: Omit<EmojiOptions, 'split' | 'size'>): Promise<EmojiCounts> {
	const { emoji, classes, missing } = await listEmoji(selection(parseOptions(emojiOptions, options, 'data')));
	const heldOut = emoji.filter((one) => one.heldOut).length;
	return {
		images: emoji.length,
		base: new Set(emoji.map((one) => one.base)).size,
		train: emoji.length - heldOut,
		heldOut,
		categories: Object.fromEntries(classes.map((category) => [category, emoji.filter((one) => one.category === category).length])),
		missing: missing.map(captionOf),
	};
}

/** The captions of what `options` select, in the order of the data set, without loading an image. */
export async function emojiCaptions(options: Omit<EmojiOptions, 'size'>): Promise<string[]> {
	const { split, ...rest } = parseOptions(emojiOptions, options, 'data');
	return partOf((await listEmoji(selection(rest))).emoji, split).map(captionOf);
}

function partOf(emoji: readonly Emoji[], split: 'train' | 'held-out' | 'all'): Emoji[] {
	return emoji.filter((one) => split === 'all' || one.heldOut === (split === 'held-out'));
}

function captionOf({ title, skin, style }: Pick<Emoji, 'title' | 'skin' | 'style'>): string {
	return [title, ...(skin === '' ? [] : [skin]), ...(style === 'fluent' ? ['3d'] : [])].join(', ');
}

function stylesOf(style: EmojiStyle | 'both'): EmojiStyle[] {
	return style === 'both' ? ['twitter', 'fluent'] : [style];
}

function selection(options: Pick<v.InferOutput<typeof emojiOptions>, 'style' | 'categories' | 'flags' | 'skins'>): EmojiSelection {
	const { style, categories, flags, skins } = options;
	return { styles: stylesOf(style), categories, flags, skins };
}
