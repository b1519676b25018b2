/** @file Lists the images and captions below a folder, in an order that is the same on every machine. */
import { readdir, realpath, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { fileError } from '../../io/file-error.ts';
import { imageEndings } from './decode-image.ts';

/** Names of lists of images. */
const metadataNames = ['metadata.jsonl', 'metadata.csv'] as const;
export type MetadataName = (typeof metadataNames)[number];

/** What lies below a folder; paths are relative to it, with `/`, sorted by code unit. */
export interface FolderListing {
	readonly images: readonly string[];
	/** The `.txt` files. */
	readonly captions: ReadonlySet<string>;
	/** The list of images that lies directly in the folder; of two, the first. */
	readonly metadata: MetadataName | undefined;
	/** All other files. */
	readonly others: readonly string[];
}

/**
 * Lists `folder` and all folders below it, following links but not in circles, passing over hidden files.
 * @throws DiffusionPipeError when the folder cannot be listed
 */
export async function listFolder(folder: string): Promise<FolderListing> {
	const files: string[] = [];
	const ancestors = new Set<string>();
	const walk = async (below: string): Promise<void> => {
		const path = join(folder, below);
		try {
			const real = await realpath(path);
			if (ancestors.has(real)) return;
			ancestors.add(real);
			for (const entry of await readdir(path, { withFileTypes: true })) {
				if (entry.name.startsWith('.')) continue;
				const name = below === '' ? entry.name : `${below}/${entry.name}`;
				// A link that leads nowhere is kept: it is reported when it is loaded, like any broken file.
				const kind = entry.isSymbolicLink() ? await stat(join(folder, name)).catch(() => undefined) : entry;
				if (kind?.isDirectory()) await walk(name);
				else files.push(name);
			}
			ancestors.delete(real);
		} catch (error) {
			throw fileError(path, 'list', error);
		}
	};
	await walk('');
	files.sort();
	const ending = (name: string): string => /\.[^./]*$/.exec(name)?.[0].toLowerCase() ?? '';
	const isImage = (name: string): boolean => (imageEndings as readonly string[]).includes(ending(name));
	return {
		images: files.filter(isImage),
		captions: new Set(files.filter((name) => name.endsWith('.txt'))),
		metadata: metadataNames.find((name) => files.includes(name)),
		others: files.filter((name) => !isImage(name)),
	};
}
