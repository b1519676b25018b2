/** @file A folder of the user's images: with class folders, with `metadata.jsonl`, or with captions in `.txt` files beside them. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { DiffusionPipeError } from '../../core/errors.ts';
import { errorCode, fileError } from '../../io/file-error.ts';
import { nearestSize, occupied } from './buckets.ts';
import { decodeImage, imageEndings, imageSizeOf } from './decode-image.ts';
import { type FolderListing, listFolder } from './list-folder.ts';
import { readMetadata } from './metadata-file.ts';
import { parseOptions, pixels } from './options.ts';
import type { DataSet, PixelSize } from './types.ts';

/** Options of the `folder` data set. */
export const folderOptions = v.strictObject({
	type: v.literal('folder'),
	/** The folder, relative to the working folder or absolute. */
	path: v.string(),
	/** Size the images are brought to: scaled to cover it, cropped in the centre. */
	height: pixels,
	width: pixels,
	/**
	 * Further sizes, [width, height] each: every image is brought to the size (these, or `height` and `width`) of the nearest aspect ratio, and of those to
	 * the largest it need not be enlarged for. A step trains on images of one size; the training program is compiled for each size, over the same weights.
	 */
	buckets: v.optional(v.array(v.tuple([pixels, pixels]))),
	/** 3 for RGB, 1 for grey. */
	channels: v.optional(v.picklist([1, 3]), 3),
});

/** Options of the `folder` data set, as a user gives them. */
export type FolderOptions = v.InferInput<typeof folderOptions>;

/** One image and what its folder or the metadata say of it. */
export interface Entry {
	/** Path below the folder, with `/`. */
	readonly file: string;
	readonly label: number;
	/** Undefined: read the `.txt` beside the image. */
	readonly caption: string | undefined;
	/** Path below the folder of the `.txt` beside the image, where there is one. */
	readonly captionFile: string | undefined;
	/** Where the file was named, when not found by looking. */
	readonly namedIn: string | undefined;
}

/**
 * Opens a folder of images. By what it holds:
 * - `metadata.jsonl`: each line { file_name, text?, label? } gives one image, its caption and its class;
 * - folders: their sorted names are the classes of all images below them; an image without a `.txt` has its class as caption;
 * - images: no classes. Captions come from `.txt` files of the same name, and are '' without one.
 *
 * Hidden files are passed over. Files are read when asked for, so a broken one is found on loading it.
 * @throws DiffusionPipeError when the folder is missing or holds no images, or the metadata is malformed
 */
export async function openImageFolder(options: FolderOptions): Promise<DataSet> {
	const { path, height, width, channels, buckets = [] } = parseOptions(folderOptions, options, 'data');
	const listing = await listFolder(path);
	const { entries, classes } = listing.metadata ? await readMetadata(path) : fromFiles(path, listing);
	const sizes: PixelSize[] = [{ height, width }, ...buckets.map(([w, h]) => ({ height: h, width: w }))];
	const chosen = buckets.length > 0 ? await chooseSizes(path, entries, sizes) : undefined;
	return {
		name: path,
		...(chosen ? occupied(sizes, chosen) : {}),
		size: entries.length,
		channels,
		height,
		width,
		classes,
		licence: `the images in ${path} belong to whoever made them; see to the licence yourself`,
		nameOf: (index) => entries[index]!.file,
		async load(index) {
			const entry = entries[index];
			if (entry === undefined) {
				throw new DiffusionPipeError('internal', 'no such example', {
					place: path,
					expected: `0 to ${entries.length - 1}`,
					found: `${index}`,
				});
			}
			const file = join(path, entry.file);
			try {
				const image = await decodeImage(await readFile(file), { channels, ...sizes[chosen?.[index] ?? 0]! });
				const fallback = entry.label === -1 ? '' : classes![entry.label]!;
				const caption = entry.caption ?? (entry.captionFile === undefined ? fallback : await readCaption(join(path, entry.captionFile)));
				return { name: entry.file, image, label: entry.label, caption };
			} catch (error) {
				if (entry.namedIn !== undefined && errorCode(error) === 'ENOENT') {
					throw new DiffusionPipeError('input', 'the file is missing', { place: file, found: `named in ${entry.namedIn}`, cause: error });
				}
				throw fileError(file, 'decode', error);
			}
		},
	};
}

/** For each image the index of the size it is brought to; one that cannot be read counts to the first, and is found broken when it is loaded. */
async function chooseSizes(path: string, entries: readonly Entry[], sizes: readonly PixelSize[]): Promise<number[]> {
	const choose = ({ file }: Entry) =>
		imageSizeOf(join(path, file)).then(
			(size) => nearestSize(size, sizes),
			() => 0,
		);
	const chosen: number[] = [];
	// A few at a time: open files are limited.
	for (let i = 0; i < entries.length; i += 16) chosen.push(...(await Promise.all(entries.slice(i, i + 16).map(choose))));
	return chosen;
}

function fromFiles(path: string, { images, captions, others }: FolderListing): { entries: Entry[]; classes: string[] | undefined } {
	if (images.length === 0) {
		throw new DiffusionPipeError('input', 'holds no images', {
			place: path,
			expected: `files ending in ${imageEndings.join(' ')}, or metadata.jsonl`,
			found:
				others.length === 0 ? 'nothing' : `${others.slice(0, 5).join(', ')}${others.length > 5 ? ` and ${others.length - 5} more` : ''}`,
		});
	}
	const inClass = images.filter((file) => file.includes('/'));
	if (inClass.length > 0 && inClass.length < images.length) {
		throw new DiffusionPipeError('input', 'holds both images and class folders', {
			place: path,
			found: `${images.find((file) => !file.includes('/'))} and ${inClass[0]}`,
			hint: 'move all images into class folders, or all out of them, or describe them in metadata.jsonl',
		});
	}
	const classOf = (file: string): string => file.slice(0, file.indexOf('/'));
	const classes = inClass.length === 0 ? undefined : [...new Set(inClass.map(classOf))].sort();
	const labels = new Map(classes?.map((name, label) => [name, label]));
	const entries = images.map((file): Entry => {
		const text = `${file.slice(0, file.lastIndexOf('.'))}.txt`;
		return {
			file,
			label: labels.get(classOf(file)) ?? -1,
			caption: undefined,
			captionFile: captions.has(text) ? text : undefined,
			namedIn: undefined,
		};
	});
	return { entries, classes };
}

async function readCaption(path: string): Promise<string> {
	try {
		return (await readFile(path, 'utf8')).trim();
	} catch (error) {
		throw fileError(path, 'read', error);
	}
}
