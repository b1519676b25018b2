/**
 * @file Files of model repositories on disk, laid out as Python's huggingface_hub does, so that what either fetched serves both:
 * `models--owner--name/` holds `blobs/<hash>` (contents), `snapshots/<commit>/<path>` (links to them) and `refs/<branch>` (a commit).
 */
import { createHash } from 'node:crypto';
import { constants, createReadStream } from 'node:fs';
import { copyFile, open, readFile, rename, rm, stat, symlink } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { DiffusionPipeError } from '../core/errors.ts';
import { syncFolder, temporaryPath, writeWhole } from './atomic.ts';
import { errorCode, fileError } from './file-error.ts';
import { makeFolder } from './make-folder.ts';

/** One file of a repository at one commit. */
export interface RepoFile {
	/** Relative, with `/`. */
	readonly path: string;
	readonly size: number;
	/** What names its content: SHA-256 for large files, Git's SHA-1 of a blob for the others. */
	readonly hash: { readonly kind: 'sha256' | 'git'; readonly hex: string };
}

/** The folder of one repository in the cache. */
export interface RepoCache {
	readonly folder: string;
	snapshot(commit: string): string;
	/** The commit that `revision` stood for when it was last fetched whole; undefined when it never was. */
	commitOf(revision: string): Promise<string | undefined>;
	/** Notes that all files wanted of `commit` are there. */
	setCommit(revision: string, commit: string): Promise<void>;
	/** True when the file is there in full. */
	has(commit: string, file: RepoFile): Promise<boolean>;
	/**
	 * Fetches a file and links it into the snapshot. `read(from)` gives its bytes from there on. What was fetched before an interruption is kept and
	 * continued, now and after a restart; `onBytes` is told how much is there. Throws `Interrupted` when the source fails or ends early.
	 */
	fetch(
		commit: string,
		file: RepoFile,
		read: (from: number) => Promise<AsyncIterable<Uint8Array>>,
		onBytes: (bytes: number) => void,
	): Promise<void>;
}

const commitName = /^[0-9a-f]{40}$/;

/** The cache of `owner/name` in `cacheDir`. */
export function openRepoCache(cacheDir: string, id: string): RepoCache {
	const folder = join(cacheDir, `models--${id.replace('/', '--')}`);
	const snapshot = (commit: string) => join(folder, 'snapshots', commit);
	const sizeOf = async (path: string): Promise<number | undefined> => {
		try {
			return (await stat(path)).size;
		} catch (error) {
			if (errorCode(error) === 'ENOENT') return undefined;
			throw fileError(path, 'read', error);
		}
	};
	const has: RepoCache['has'] = async (commit, file) => (await sizeOf(join(snapshot(commit), file.path))) === file.size;
	return {
		folder,
		snapshot,
		has,
		async commitOf(revision) {
			if (commitName.test(revision)) return (await sizeOf(snapshot(revision))) === undefined ? undefined : revision;
			const path = join(folder, 'refs', revision);
			if ((await sizeOf(path)) === undefined) return undefined;
			const commit = (await readFile(path, 'utf8')).trim();
			return commitName.test(commit) && (await sizeOf(snapshot(commit))) !== undefined ? commit : undefined;
		},
		async setCommit(revision, commit) {
			if (revision !== commit) await writeWhole(join(folder, 'refs', revision), commit);
		},
		async fetch(commit, file, read, onBytes) {
			const blob = join(folder, 'blobs', file.hash.hex);
			const there = async () => (await sizeOf(blob)) === file.size;
			try {
				await makeFolder(dirname(blob));
				if (!(await there())) {
					await fetchBlob(blob, file, read, onBytes).catch(async (error: unknown) => {
						// Another process that fetched the same file was there first.
						if (errorCode(error) !== 'ENOENT' || !(await there())) throw error;
					});
				}
				await place(blob, join(snapshot(commit), file.path));
			} catch (error) {
				throw error instanceof Interrupted ? error : fileError(join(snapshot(commit), file.path), 'write', error);
			}
		},
	};
}

/** The source of a file failed or ended early, after `bytes` bytes, which are kept. */
export class Interrupted extends Error {
	readonly file: RepoFile;
	readonly bytes: number;

	constructor(file: RepoFile, bytes: number, cause: unknown) {
		super(`${file.path} broke off after ${bytes} of ${file.size} bytes`, { cause });
		this.file = file;
		this.bytes = bytes;
	}
}

/** Writes `<blob>.incomplete` from where it ends, and gives it its name when its content is what the hash says. */
async function fetchBlob(
	blob: string,
	file: RepoFile,
	read: (from: number) => Promise<AsyncIterable<Uint8Array>>,
	onBytes: (bytes: number) => void,
): Promise<void> {
	const partial = `${blob}.incomplete`;
	const handle = await open(partial, constants.O_RDWR | constants.O_CREAT);
	try {
		let at = Math.min((await handle.stat()).size, file.size);
		onBytes(at);
		const rest = async function* () {
			try {
				yield* await read(at);
			} catch (cause) {
				throw new Interrupted(file, at, cause);
			}
		};
		if (at < file.size) {
			for await (const chunk of rest()) {
				// A server may send more than it was asked for.
				const part = chunk.subarray(0, file.size - at);
				// At its place rather than at the end: two processes that fetch the same file then write the same bytes.
				await handle.write(part, 0, part.length, at);
				at += part.length;
				onBytes(at);
			}
		}
		if (at < file.size) throw new Interrupted(file, at, new Error('the connection ended'));
		await handle.truncate(file.size);
		await handle.sync();
	} finally {
		await handle.close();
	}
	const found = await hashOf(partial, file);
	if (found !== file.hash.hex) {
		await rm(partial, { force: true });
		throw new DiffusionPipeError('input', 'the downloaded file is damaged and was deleted', {
			place: file.path,
			expected: `${file.hash.kind === 'git' ? 'Git object' : 'SHA-256'} ${file.hash.hex}`,
			found,
			hint: 'run the command again',
		});
	}
	await rename(partial, blob);
	await syncFolder(dirname(blob));
}

async function hashOf(path: string, { hash, size }: RepoFile): Promise<string> {
	const digest = hash.kind === 'git' ? createHash('sha1').update(`blob ${size}\0`) : createHash('sha256');
	for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) digest.update(chunk as Uint8Array);
	return digest.digest('hex');
}

/** Makes `path` a link to `blob`, or a copy where the system allows no links. */
async function place(blob: string, path: string): Promise<void> {
	await makeFolder(dirname(path));
	const temporary = temporaryPath(path);
	try {
		await symlink(relative(dirname(path), blob), temporary);
	} catch {
		await copyFile(blob, temporary);
	}
	await rename(temporary, path);
}
