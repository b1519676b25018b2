/**
 * @file Files and folders that appear whole or not at all: written under a temporary name in the same folder, flushed to the disk, renamed.
 *
 * Names: `.<name>.<unique>.tmp` is unfinished work and can be deleted at any time nobody is writing; `.<name>.old` is the former version of a folder
 * being replaced, and is the only copy if the replacing stopped half-way.
 */
import { randomBytes } from 'node:crypto';
import { type FileHandle, lstat, open, readdir, rename, rm } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { DiffusionPipeError } from '../core/errors.ts';
import { errorCode, fileError } from './file-error.ts';
import { makeFolder } from './make-folder.ts';

const temporaryName = /^\.(.+)\.[0-9a-f]{12}\.tmp$/;
const formerName = /^\.(.+)\.old$/;

/** A new temporary path next to `path`, on the same file system so that a rename is atomic. */
export function temporaryPath(path: string): string {
	return join(dirname(path), `.${basename(path)}.${randomBytes(6).toString('hex')}.tmp`);
}

/**
 * Writes the file `path` whole or not at all: `fill` writes to an open temporary file, which is then flushed and renamed over `path`.
 * The parent folder is made when missing. When `fill` throws, the temporary file is removed and `path` is as it was.
 */
export async function writeFileAtomic(path: string, fill: (file: FileHandle) => Promise<void>): Promise<void> {
	const target = resolve(path);
	const temporary = temporaryPath(target);
	try {
		await makeFolder(dirname(target));
		const file = await open(temporary, 'wx');
		try {
			await fill(file);
			await file.sync();
		} finally {
			await file.close();
		}
		await rename(temporary, target);
		await syncFolder(dirname(target));
	} catch (error) {
		await rm(temporary, { force: true }).catch(() => {});
		throw fileError(path, 'write', error);
	}
}

/** Writes `data` (text as UTF-8) to the file `path`, whole or not at all. */
export async function writeWhole(path: string, data: string | Uint8Array): Promise<void> {
	await writeFileAtomic(path, (file) => file.writeFile(data));
}

/** What to do when the folder to write is there already. */
export interface FolderOptions {
	/** Replace the folder with all it holds. Default false: an error. */
	readonly replace?: boolean;
}

/**
 * Writes the folder `path` whole or not at all: `fill` puts files into a temporary folder, which is flushed and renamed to `path`.
 * With `replace`, the former folder is moved aside first and deleted last; `cleanTemporary` brings it back if the process died in between.
 */
export async function writeFolderAtomic(path: string, fill: (folder: string) => Promise<void>, options: FolderOptions = {}): Promise<void> {
	const target = resolve(path);
	const parent = dirname(target);
	const temporary = temporaryPath(target);
	try {
		if (!options.replace && (await exists(target))) throw alreadyThere(path);
		await makeFolder(temporary);
		await fill(temporary);
		await syncTree(temporary);
		const former = join(parent, `.${basename(target)}.old`);
		const replacing = await exists(target);
		if (replacing) {
			if (!options.replace) throw alreadyThere(path);
			// A former version left by an earlier stop is out of date: the folder that replaced it is in place.
			await rm(former, { recursive: true, force: true });
			await rename(target, former);
		}
		try {
			await rename(temporary, target);
		} catch (error) {
			if (replacing) await rename(former, target);
			throw error;
		}
		await syncFolder(parent);
		if (replacing) await rm(former, { recursive: true, force: true });
	} catch (error) {
		await rm(temporary, { recursive: true, force: true }).catch(() => {});
		throw fileError(path, 'write the folder', error);
	}
}

/** Names in `folder` left by writes that were cut off; empty when the folder is missing. */
export async function listTemporary(folder: string): Promise<string[]> {
	const names = await readdir(folder).catch((error: unknown) => {
		if (errorCode(error) === 'ENOENT') return [];
		throw fileError(folder, 'list', error);
	});
	return names.filter((name) => temporaryName.test(name) || formerName.test(name)).sort();
}

/**
 * Tidies `folder` after a crash: deletes unfinished temporaries, and puts back a former folder whose replacement never came. Call it only
 * when nobody writes there (at the start of a run). Returns the names it dealt with.
 */
export async function cleanTemporary(folder: string): Promise<string[]> {
	const names = await listTemporary(folder);
	try {
		for (const name of names) {
			const former = formerName.exec(name)?.[1];
			if (former !== undefined && !(await exists(join(folder, former)))) await rename(join(folder, name), join(folder, former));
			else await rm(join(folder, name), { recursive: true, force: true });
		}
		if (names.length > 0) await syncFolder(folder);
	} catch (error) {
		throw fileError(folder, 'clean', error);
	}
	return names;
}

/** Flushes the entries of a folder, so that a rename in it survives a power cut. */
export async function syncFolder(folder: string): Promise<void> {
	// Windows cannot open a folder as a file; there the file system orders renames by itself.
	if (process.platform === 'win32') return;
	const handle = await open(folder, 'r');
	try {
		await handle.sync();
	} finally {
		await handle.close();
	}
}

async function syncTree(folder: string): Promise<void> {
	for (const entry of await readdir(folder, { withFileTypes: true })) {
		const path = join(folder, entry.name);
		if (entry.isDirectory()) await syncTree(path);
		else if (entry.isFile()) {
			// Windows flushes only what is open for writing.
			const file = await open(path, 'r+');
			try {
				await file.sync();
			} finally {
				await file.close();
			}
		}
	}
	await syncFolder(folder);
}

async function exists(path: string): Promise<boolean> {
	try {
		await lstat(path);
		return true;
	} catch (error) {
		if (errorCode(error) === 'ENOENT') return false;
		throw error;
	}
}

function alreadyThere(path: string): DiffusionPipeError {
	return new DiffusionPipeError('input', 'is there already', { place: path, hint: 'choose another name, or ask for it to be replaced' });
}
