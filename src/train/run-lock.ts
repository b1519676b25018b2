/** @file One process at a time trains into a folder: while one does, a lock file there says which. */
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { DiffusionPipeError } from '../core/errors.ts';
import { errorCode, fileError } from '../io/file-error.ts';
import { makeFolder } from '../io/make-folder.ts';

/** Name of the file in a run's folder. */
export const lockName = 'train.lock';

/** The process that holds a lock. */
interface Holder {
	readonly pid: number;
	readonly host: string;
	/** See `processStart`. */
	readonly start: string;
	/** Date and time of the lock, for people. */
	readonly since: string;
}

/**
 * Takes the lock of the run in folder `root`, which is made when missing, and returns what gives it back; the end of the process gives it back, too. A lock
 * whose process is gone from this host, as after a kill, is taken over. Throws an input error naming the process that trains there.
 */
export async function lockRunFolder(root: string): Promise<() => void> {
	const path = join(root, lockName);
	try {
		await makeFolder(root);
	} catch (error) {
		throw fileError(root, 'make the folder of the run', error);
	}
	const start = processStart(process.pid) ?? '';
	const own = JSON.stringify({ pid: process.pid, host: hostname(), start, since: new Date().toISOString() } satisfies Holder);
	while (!tryLock(path, own)) {
		let found = read(path);
		// Empty: written this moment, or cut short by a power cut.
		if (found !== undefined && !holderOf(found)) {
			await setTimeout(100);
			found = read(path);
		}
		if (found === undefined) continue;
		const holder = holderOf(found);
		if (holder && isHeld(holder)) throw refused(root, path, holder);
		rmSync(path, { force: true });
		if (!tryLock(path, own)) continue;
		// Another that found the same old lock may have removed this new one for it.
		await setTimeout(50);
		if (read(path) === own) break;
	}
	const release = () => {
		process.off('exit', release);
		if (read(path) === own) rmSync(path, { force: true });
	};
	process.on('exit', release);
	return release;
}

/** False when the file is there already. */
function tryLock(path: string, own: string): boolean {
	try {
		writeFileSync(path, own, { flag: 'wx' });
		return true;
	} catch (error) {
		if (errorCode(error) === 'EEXIST') return false;
		throw fileError(path, 'lock the folder of the run', error);
	}
}

/** The text of a lock; undefined when there is none. */
function read(path: string): string | undefined {
	try {
		return readFileSync(path, 'utf8');
	} catch (error) {
		if (errorCode(error) === 'ENOENT') return undefined;
		throw fileError(path, 'read', error);
	}
}

function holderOf(text: string): Holder | undefined {
	try {
		const { pid, host, start, since } = JSON.parse(text) as Record<string, unknown>;
		const isWhole = [host, start, since].every((each) => typeof each === 'string') && Number.isSafeInteger(pid) && Number(pid) > 0;
		return isWhole ? ({ pid, host, start, since } as Holder) : undefined;
	} catch {
		return undefined;
	}
}

/** Of a process on another host nothing is known. */
function isHeld({ pid, host, start }: Holder): boolean {
	if (host !== hostname()) return true;
	const now = processStart(pid);
	return now !== undefined && (now === '' || start === '' || now === start);
}

/**
 * When process `pid` of this host began, in ticks since the host did: tells it from a later one of the same number, as that of a container started again. Empty
 * where the system does not say; undefined when there is no such process, or it has ended and only waits to be noticed.
 */
function processStart(pid: number): string | undefined {
	try {
		const text = readFileSync(`/proc/${pid}/stat`, 'latin1');
		// proc(5): the name in parentheses may hold anything; the state is field 3 and the start field 22.
		const [state, ...fields] = text.slice(text.lastIndexOf(')') + 2).split(' ');
		return state === 'Z' || state === 'X' ? undefined : (fields[18] ?? '');
	} catch {
		// Not Linux, or no such process.
	}
	try {
		process.kill(pid, 0);
		return '';
	} catch (error) {
		return errorCode(error) === 'EPERM' ? '' : undefined;
	}
}

function refused(root: string, path: string, { pid, host, since }: Holder): DiffusionPipeError {
	const isHere = host === hostname();
	return new DiffusionPipeError('input', 'is being trained into already', {
		place: root,
		found: `process ${pid} of ${isHere ? 'this host' : host}, since ${since}`,
		hint: `${isHere ? 'wait until it has ended' : `remove ${path} if it has ended`}, or --output-dir DIR to train elsewhere`,
	});
}
