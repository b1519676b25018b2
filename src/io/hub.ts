/** @file Models by name: a folder of this machine, or `owner/name` of the Hugging Face hub, fetched once into the cache that its Python tools use. */
import { stat } from 'node:fs/promises';
import { setTimeout } from 'node:timers/promises';
import type { ListFileEntry } from '@huggingface/hub';
import { DiffusionPipeError } from '../core/errors.ts';
import { errorCode, fileError } from './file-error.ts';
import { Interrupted, openRepoCache, type RepoCache, type RepoFile } from './hub-cache.ts';
import { chooseFiles, type FileChoice } from './hub-files.ts';

/** What happens while a model is fetched. */
export type HubEvent =
	/** The files wanted, those that are in the cache already included. */
	| { readonly kind: 'plan'; readonly files: number; readonly bytes: number; readonly cachedBytes: number }
	/** More of `file` has come: `fileBytes` of `fileSize`; of everything `bytes` of `total`. */
	| {
			readonly kind: 'progress';
			readonly file: string;
			readonly fileBytes: number;
			readonly fileSize: number;
			readonly bytes: number;
			readonly total: number;
	  }
	| { readonly kind: 'note'; readonly text: string };

export interface ResolveOptions extends FileChoice {
	/** Branch, tag or commit. Default `main`. */
	readonly revision?: string;
	/** Default: where Python's huggingface_hub keeps models (`HF_HUB_CACHE`, `HF_HOME`/hub, ~/.cache/huggingface/hub). */
	readonly cacheDir?: string;
	/** Access token (`hf_...`) for private and gated models. Default: `HF_TOKEN`. */
	readonly token?: string;
	/** Default: `HF_ENDPOINT`, else https://huggingface.co. */
	readonly endpoint?: string;
	/** In place of the global `fetch`, e.g. one that goes through a proxy. */
	readonly fetch?: typeof fetch;
	readonly signal?: AbortSignal;
	readonly onEvent?: (event: HubEvent) => void;
}

/** Attempts in a row that may bring nothing before a download is given up. */
const idleAttempts = 2;
/** Between two attempts of which the first brought nothing. */
const idlePauseMs = 500;
const repoName = /^[A-Za-z0-9][\w.-]*\/[A-Za-z0-9_][\w.-]*$/;

/**
 * The folder of a model. A path of a folder is returned as it is; `owner/name` is fetched from the hub where the cache lacks files, and its snapshot
 * folder in the cache is returned. Only what is read here is fetched (see `chooseFiles`). An interrupted download goes on where it ended. Without
 * network, the copy fetched last is returned.
 * @throws DiffusionPipeError of kind 'input' when there is no such folder or model, or access is refused; 'engine' when the hub cannot be reached
 */
export async function resolveModel(idOrPath: string, options: ResolveOptions = {}): Promise<string> {
	if (await isFolder(idOrPath)) return idOrPath;
	if (!repoName.test(idOrPath) || idOrPath.includes('..') || idOrPath.includes('--')) {
		throw new DiffusionPipeError('input', 'there is no such folder', {
			place: idOrPath,
			expected: 'the path of a model folder, or owner/name of a model on the hub',
		});
	}
	const hub = await import('@huggingface/hub');
	const { revision = 'main', onEvent = () => {} } = options;
	if (!/^[\w.-]+(\/[\w.-]+)*$/.test(revision) || revision.includes('..')) {
		throw new DiffusionPipeError('usage', 'the revision is malformed', {
			place: idOrPath,
			expected: 'a branch, tag or commit',
			found: revision,
		});
	}
	const cacheDir = options.cacheDir ?? hub.getHFHubCachePath();
	const endpoint = (options.endpoint ?? (process.env.HF_ENDPOINT || hub.HUB_URL)).replace(/\/+$/, '');
	const token = options.token ?? (process.env.HF_TOKEN || undefined);
	if (token !== undefined && !token.startsWith('hf_')) {
		throw new DiffusionPipeError('usage', 'the access token is malformed', { place: idOrPath, expected: 'a token that starts with hf_' });
	}
	const request = options.fetch ?? fetch;
	const { signal } = options;
	const access = {
		hubUrl: endpoint,
		fetch: signal ? (((url, init) => request(url, { ...init, signal })) as typeof fetch) : request,
		...(token === undefined ? {} : { accessToken: token }),
	};
	const cache = openRepoCache(cacheDir, idOrPath);
	const explain = (error: unknown) => hubError(error, { id: idOrPath, revision, endpoint, cacheDir, token, signal });

	let commit: string;
	let listed: ListFileEntry[];
	try {
		const info = await hub.modelInfo({ ...access, name: idOrPath, revision, additionalFields: ['sha'] });
		commit = checkCommit(info.sha, idOrPath);
		listed = [];
		for await (const entry of hub.listFiles({ ...access, repo: idOrPath, revision: commit, recursive: true })) listed.push(entry);
	} catch (error) {
		const known = isApiError(error) || error instanceof DiffusionPipeError || signal?.aborted ? undefined : await cache.commitOf(revision);
		if (known === undefined) throw explain(error);
		onEvent({ kind: 'note', text: `${endpoint} cannot be reached: using the copy of ${idOrPath} fetched before (${known.slice(0, 8)})` });
		return cache.snapshot(known);
	}
	const files = repoFiles(listed, idOrPath);
	const wanted = new Set(chooseFiles([...files.keys()], options, `${idOrPath} (${revision})`));
	const chosen = [...files.values()].filter((f) => wanted.has(f.path));
	const read = async (file: RepoFile, from: number) => {
		// Plain ranges of one file can be continued at any byte, whoever stores it.
		const blob = await hub.downloadFile({ ...access, repo: idOrPath, path: file.path, revision: commit, xet: false });
		if (blob) return blob.slice(from, file.size).stream() as unknown as AsyncIterable<Uint8Array>;
		throw new DiffusionPipeError('input', 'a file that the hub lists is not there', { place: `${idOrPath}: ${file.path}` });
	};
	try {
		await fetchAll(cache, commit, chosen, read, onEvent, signal);
	} catch (error) {
		throw explain(error);
	}
	await cache.setCommit(revision, commit);
	return cache.snapshot(commit);
}

async function isFolder(path: string): Promise<boolean> {
	try {
		if ((await stat(path)).isDirectory()) return true;
	} catch (error) {
		if (['ENOENT', 'ENOTDIR', 'ENAMETOOLONG'].includes(errorCode(error) ?? '')) return false;
		throw fileError(path, 'open the model folder', error);
	}
	throw new DiffusionPipeError('input', 'is a file', { place: path, expected: 'a model folder, or owner/name of a model on the hub' });
}

function checkCommit(sha: unknown, id: string): string {
	// It becomes the name of a folder.
	if (typeof sha === 'string' && /^[0-9a-f]{40}$/.test(sha)) return sha;
	throw new DiffusionPipeError('input', 'the hub gave no commit', { place: id, found: JSON.stringify(sha) ?? 'nothing' });
}

/** The files of a listing by path. Throws an input error at a path that leads out of the folder. */
function repoFiles(entries: readonly ListFileEntry[], id: string): Map<string, RepoFile> {
	const files = new Map<string, RepoFile>();
	for (const { type, path, size, oid, lfs } of entries) {
		if (type !== 'file') continue;
		const hash = lfs ? ({ kind: 'sha256', hex: lfs.oid } as const) : ({ kind: 'git', hex: oid ?? '' } as const);
		const safe = !/[\\\0:]/.test(path) && path.split('/').every((part) => part !== '' && part !== '.' && part !== '..');
		if (!safe || !/^[0-9a-f]{40,64}$/.test(hash.hex) || !Number.isSafeInteger(lfs?.size ?? size)) {
			throw new DiffusionPipeError('input', 'the hub lists a file that cannot be stored', { place: id, found: JSON.stringify(path) });
		}
		files.set(path, { path, size: lfs?.size ?? size, hash });
	}
	return files;
}

/** Fetches what the cache lacks. A file whose connection breaks is continued as long as that brings more of it. */
async function fetchAll(
	cache: RepoCache,
	commit: string,
	files: readonly RepoFile[],
	read: (file: RepoFile, from: number) => Promise<AsyncIterable<Uint8Array>>,
	onEvent: (event: HubEvent) => void,
	signal: AbortSignal | undefined,
): Promise<void> {
	const missing: RepoFile[] = [];
	for (const file of files) if (!(await cache.has(commit, file))) missing.push(file);
	const total = files.reduce((sum, f) => sum + f.size, 0);
	let before = total - missing.reduce((sum, f) => sum + f.size, 0);
	onEvent({ kind: 'plan', files: files.length, bytes: total, cachedBytes: before });
	// Small ones first: a config that does not fit is found before gigabytes of weights have come.
	for (const file of missing.sort((a, b) => a.size - b.size)) {
		const onBytes = (fileBytes: number) =>
			onEvent({ kind: 'progress', file: file.path, fileBytes, fileSize: file.size, bytes: before + fileBytes, total });
		let reached = -1;
		let idle = 0;
		for (;;) {
			try {
				await cache.fetch(commit, file, (from) => read(file, from), onBytes);
				break;
			} catch (error) {
				if (!(error instanceof Interrupted) || signal?.aborted || isFinal(error.cause)) throw error;
				idle = error.bytes > reached ? 0 : idle + 1;
				reached = Math.max(reached, error.bytes);
				if (idle >= idleAttempts) throw error;
				if (idle > 0) await setTimeout(idlePauseMs);
			}
		}
		before += file.size;
	}
}

/** True when asking again would give the same answer. */
function isFinal(error: unknown): boolean {
	return isApiError(error) ? error.statusCode < 500 && error.statusCode !== 429 : error instanceof DiffusionPipeError;
}

function isApiError(error: unknown): error is Error & { readonly statusCode: number } {
	return error instanceof Error && 'statusCode' in error && typeof error.statusCode === 'number';
}

/** The innermost message: fetch hides what happened behind `fetch failed`. */
function reason(error: unknown): string {
	if (!(error instanceof Error)) return String(error);
	return error.cause instanceof Error ? reason(error.cause) : error.message || errorCode(error) || error.name;
}

interface ErrorContext {
	readonly id: string;
	readonly revision: string;
	readonly endpoint: string;
	readonly cacheDir: string;
	readonly token: string | undefined;
	readonly signal: AbortSignal | undefined;
}

function hubError(error: unknown, { id, revision, endpoint, cacheDir, token, signal }: ErrorContext): DiffusionPipeError {
	const failure = error instanceof Interrupted ? error : undefined;
	const cause = failure ? failure.cause : error;
	if (cause instanceof DiffusionPipeError) return cause;
	const place = failure ? `${id}: ${failure.file.path}` : id;
	const kept =
		failure && failure.bytes > 0 ? `${failure.bytes} of ${failure.file.size} bytes are kept: run the command again to go on` : undefined;
	if (signal?.aborted) {
		return new DiffusionPipeError('engine', 'the download was stopped', { place, ...(kept === undefined ? {} : { hint: kept }), cause });
	}
	if (!isApiError(cause)) {
		return new DiffusionPipeError('engine', failure ? 'the download broke off' : `${endpoint} cannot be reached`, {
			place,
			found: reason(cause),
			hint: kept ?? `check the network, or give the path of a model folder on this machine; fetched models are kept in ${cacheDir}`,
			cause,
		});
	}
	const found = `${cause.statusCode}: ${cause.message}`;
	if (cause.statusCode === 401 || cause.statusCode === 403) {
		return new DiffusionPipeError('input', `${endpoint} refuses access`, {
			place,
			expected: 'a public model, or an access token that may read it',
			found,
			hint:
				token === undefined
					? `check the name; if the model is private or gated, accept its terms at ${endpoint}/${id} and set HF_TOKEN`
					: `check the name, and that the token's account has accepted the terms at ${endpoint}/${id}`,
			cause,
		});
	}
	if (cause.statusCode === 404) {
		return new DiffusionPipeError('input', failure ? 'the file is not there' : `is neither a folder here nor a model at ${endpoint}`, {
			place,
			expected: `a model with revision ${revision}`,
			found,
			hint: 'check the name and the revision, or give the path of a model folder',
			cause,
		});
	}
	return new DiffusionPipeError('engine', `${endpoint} failed`, { place, found, hint: kept ?? 'try again later', cause });
}
