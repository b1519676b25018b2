/** @file Makes a folder and those above it, and ends where that cannot be done. */
import { mkdir, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { errorCode } from './file-error.ts';

/**
 * Makes the folder `path` and those above it; one that is there already is no error. Unlike `mkdir` with `recursive` it ends below folders that take none and
 * answer that they are not there, as /proc does: node tries those again for ever. Throws what the system says.
 */
export async function makeFolder(path: string): Promise<void> {
	const target = resolve(path);
	try {
		await mkdirOnce(target);
	} catch (error) {
		const parent = dirname(target);
		if (errorCode(error) !== 'ENOENT' || parent === target) throw error;
		await makeFolder(parent);
		await mkdirOnce(target);
	}
}

async function mkdirOnce(path: string): Promise<void> {
	try {
		await mkdir(path);
	} catch (error) {
		// Read-only systems refuse a folder that is there by another code than EEXIST.
		const isThere = await stat(path).then(
			(found) => found.isDirectory(),
			() => false,
		);
		if (!isThere) throw error;
	}
}
