/** @file Checksums of a checkpoint's tensor files, so that a damaged one is refused by name instead of trained on. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { DiffusionPipeError } from '../core/errors.ts';
import { fileError } from '../io/file-error.ts';

/** SHA-256 in hex by file, its path in the checkpoint with `/`. */
export type Checksums = Readonly<Record<string, string>>;

/** Checksums of the safetensors files in the folders `parts` of the folder `dir`; `''` is `dir` itself. Folders below them do not count. */
export async function checksumsOf(dir: string, parts: readonly string[]): Promise<Checksums> {
	const found: [string, string][] = [];
	for (const part of parts) {
		for (const name of (await readdir(join(dir, part))).sort()) {
			if (!name.endsWith('.safetensors')) continue;
			found.push([part === '' ? name : `${part}/${name}`, await sha256Of(join(dir, part, name))]);
		}
	}
	return Object.fromEntries(found);
}

/** Throws an input error naming the first file of `dir` that is missing or is another than was written. */
export async function verifyChecksums(dir: string, checksums: Checksums): Promise<void> {
	for (const [name, expected] of Object.entries(checksums)) {
		const path = join(dir, name);
		const found = await sha256Of(path);
		if (found === expected) continue;
		throw new DiffusionPipeError('input', 'is damaged: it is not what was written', {
			place: path,
			expected: `SHA-256 ${expected}`,
			found,
			hint: 'another checkpoint, or, where it was changed on purpose, take its line out of "checksums" in training/state.json',
		});
	}
}

async function sha256Of(path: string): Promise<string> {
	const hash = createHash('sha256');
	try {
		for await (const chunk of createReadStream(path, { highWaterMark: 2 ** 20 })) hash.update(chunk as Uint8Array);
	} catch (error) {
		throw fileError(path, 'read', error);
	}
	return hash.digest('hex');
}
