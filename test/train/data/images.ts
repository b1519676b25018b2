/** @file Small image files made on the spot, and a folder to put them in. */
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import sharp, { type Sharp } from 'sharp';

/** A plain image in one colour. */
export function plain(r: number, g: number, b: number, width = 8, height = 8): Sharp {
	return sharp({ create: { width, height, channels: 3, background: { r, g, b } } });
}

/** An image from its pixels, [height, width, channels]. */
export function fromPixels(values: number[], width: number, height: number, channels: 1 | 2 | 3 | 4): Sharp {
	return sharp(Uint8Array.from(values), { raw: { width, height, channels } });
}

/** A new folder holding these files by their paths in it. */
export function folderOf(files: Readonly<Record<string, string | Uint8Array>>): string {
	const folder = mkdtempSync(join(tmpdir(), 'images-'));
	for (const [path, content] of Object.entries(files)) {
		mkdirSync(dirname(join(folder, path)), { recursive: true });
		writeFileSync(join(folder, path), content);
	}
	return folder;
}
