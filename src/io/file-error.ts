/** @file Turns what the file system throws into an error that names the path and the act. */
import { DiffusionPipeError, type ErrorKind } from '../core/errors.ts';

/** Failures of the machine while running, as against a path that was given wrongly. */
const machineFailures = new Set(['ENOSPC', 'EIO', 'EMFILE', 'ENFILE', 'EDQUOT', 'EROFS', 'ENOMEM']);

const hints: Record<string, string> = {
	ENOENT: 'check the path',
	ENOTDIR: 'a part of the path is a file, not a folder',
	EISDIR: 'give a file, not a folder',
	EEXIST: 'a file has this name',
	EACCES: 'check the permissions',
	EPERM: 'check the permissions',
	ENOSPC: 'free some space on this disk',
	EDQUOT: 'free some space: the quota is used up',
	EROFS: 'choose a folder that can be written',
	EMFILE: 'raise the limit on open files (ulimit -n)',
};

/**
 * The error to throw when `doing` (as in 'read' or 'write') failed on `path`. A DiffusionPipeError passes unchanged; anything else becomes one of
 * kind 'input', or 'engine' when the machine failed (disk full, too many open files).
 */
export function fileError(path: string, doing: string, error: unknown): DiffusionPipeError {
	if (error instanceof DiffusionPipeError) return error;
	const code = errorCode(error);
	const kind: ErrorKind = code !== undefined && machineFailures.has(code) ? 'engine' : 'input';
	const hint = code === undefined ? undefined : hints[code];
	return new DiffusionPipeError(kind, `cannot ${doing}`, {
		place: path,
		found: error instanceof Error ? error.message : String(error),
		...(hint === undefined ? {} : { hint }),
		cause: error,
	});
}

/** The system's code of an error (`ENOENT`), or undefined when it has none. */
export function errorCode(error: unknown): string | undefined {
	if (typeof error !== 'object' || error === null || !('code' in error)) return undefined;
	return typeof error.code === 'string' ? error.code : undefined;
}
