/** @file A folder of the user's images: with class folders, with `metadata.jsonl` or `metadata.csv`, or with captions in `.txt` files beside them. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { DiffusionPipeError } from '../../core/errors.ts';
import { errorCode, fileError } from '../../io/file-error.ts';
import { nearestSize, occupied } from './buckets.ts';
import { decodeImage, imageEndings, imageSizeOf } from './decode-image.ts';
import { edgeMap } from './edges.ts';
import { type FolderListing, listFolder } from './list-folder.ts';
import { conditioningFields, readMetadata } from './metadata-file.ts';
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
	/** Steps of one size that come in a row, at most: a filled run has bubbles to fill only where the next step has the size of this one. */
	bucket_run_length: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1)), 8),
	/** 3 for RGB, 1 for grey. */
	channels: v.optional(v.picklist([1, 3]), 3),
	/**
	 * Every image comes with a conditioning picture, for ControlNets. `file`: the one that `conditioning_image_file_name` of the metadata names, scaled and
	 * cropped like the image; `edges`: the map of the image's edges (see `edgeMap`).
	 */
	conditioning_image: v.optional(v.picklist(['file', 'edges'])),
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
	/** Path below the folder of the conditioning picture that the metadata names. */
	readonly conditioning: string | undefined;
	/** Where the file was named, when not found by looking. */
	readonly namedIn: string | undefined;
}

/**
 * Opens a folder of images. By what it holds:
 * - `metadata.jsonl` or `metadata.csv`: each line { file_name, text?, label?, conditioning_image_file_name? } gives one image, its caption, its class and
 *   its conditioning picture;
 * - folders: their sorted names are the classes of all images below them; an image without a `.txt` has its class as caption;
 * - images: no classes. Captions come from `.txt` files of the same name, and are '' without one.
 *
 * Hidden files are passed over. Files are read when asked for, so a broken one is found on loading it.
 * @throws DiffusionPipeError when the folder is missing or holds no images, or the metadata is malformed
 */
export async function openImageFolder(options: FolderOptions): Promise<DataSet> {
	const {
		path,
		height,
		width,
		channels,
		buckets = [],
		bucket_run_length,
		conditioning_image: conditioning,
	} = parseOptions(folderOptions, options, 'data');
	const listing = await listFolder(path);
	const { entries, classes } = listing.metadata ? await readMetadata(path, listing.metadata) : fromFiles(path, listing);
	if (conditioning === 'file') checkNamed(path, entries);
	const sizes: PixelSize[] = [{ height, width }, ...buckets.map(([w, h]) => ({ height: h, width: w }))];
	const chosen = buckets.length > 0 ? await chooseSizes(path, entries, sizes) : undefined;
	return {
		name: path,
		...(chosen ? { ...occupied(sizes, chosen), bucketRunLength: bucket_run_length } : {}),
		size: entries.length,
		channels,
		height,
		width,
		classes,
		conditioned: conditioning !== undefined,
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
				const size = sizes[chosen?.[index] ?? 0]!;
				const image = await decodeImage(await readFile(file), { channels, ...size });
				const picture =
					conditioning === 'edges'
						? edgeMap(image, channels, size.height, size.width)
						: conditioning && (await conditioningPicture(file, join(path, entry.conditioning!), size));
				const fallback = entry.label === -1 ? '' : classes![entry.label]!;
				const caption = entry.caption ?? (entry.captionFile === undefined ? fallback : await readCaption(join(path, entry.captionFile)));
				return { name: entry.file, image, label: entry.label, caption, ...(picture ? { conditioning: picture } : {}) };
			} catch (error) {
				if (entry.namedIn !== undefined && errorCode(error) === 'ENOENT') {
					throw new DiffusionPipeError('input', 'the file is missing', { place: file, found: `named in ${entry.namedIn}`, cause: error });
				}
				throw fileError(file, 'decode', error);
			}
		},
	};
}

/** Throws an input error unless the metadata names a conditioning picture for every image. */
function checkNamed(path: string, entries: readonly Entry[]): void {
	const without = entries.find((entry) => entry.conditioning === undefined);
	if (!without) return;
	throw new DiffusionPipeError('input', 'an image has no conditioning picture', {
		place: without.namedIn ?? join(path, without.file),
		expected: `metadata.jsonl or metadata.csv with ${conditioningFields[0]} for every image`,
		found: without.file,
		hint: 'set data.conditioning_image = "edges" to compute them from the images',
	});
}

/**
 * The conditioning picture of the image in `file`: [3, height, width], values in [0, 1]. Throws an input error when it is missing, or of another aspect ratio than
 * its image, since the same part of both could not be taken.
 */
async function conditioningPicture(file: string, conditioning: string, size: PixelSize): Promise<Float32Array> {
	try {
		const [image, own] = [await imageSizeOf(file), await imageSizeOf(conditioning)];
		// Half a pixel of rounding on either side of the smaller of the two is no difference.
		const shorter = Math.min(image.width, image.height, own.width, own.height);
		if (Math.abs(Math.log((image.width * own.height) / (image.height * own.width))) > 1 / shorter + 1e-9) {
			throw new DiffusionPipeError('input', 'a conditioning picture has another aspect ratio than its image', {
				place: conditioning,
				expected: `${image.width} x ${image.height}, or that larger or smaller`,
				found: `${own.width} x ${own.height}`,
			});
		}
		const decoded = await decodeImage(await readFile(conditioning), { channels: 3, ...size });
		return decoded.map((value) => (value + 1) / 2);
	} catch (error) {
		throw fileError(conditioning, 'decode the conditioning picture', error);
	}
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
			expected: `files ending in ${imageEndings.join(' ')}, metadata.jsonl or metadata.csv`,
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
			conditioning: undefined,
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
