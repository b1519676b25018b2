/** @file JSON lines that only grow: one object per line, cut back to a step when a run resumes. */
import { closeSync, fsyncSync, openSync, writeSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { DiffusionPipeError } from '../core/errors.ts';
import { writeWhole } from './atomic.ts';
import { errorCode, fileError } from './file-error.ts';
import { makeFolder } from './make-folder.ts';

/** An open file of JSON lines. */
export interface JsonLines {
	readonly path: string;
	/** Lines taken out on opening: those of steps to be run again, and what a crash had torn. */
	readonly dropped: number;
	/** Adds one line. It is with the operating system when this returns: a crash of the process does not lose it. */
	append(record: Readonly<Record<string, unknown>>): void;
	/** Waits until all lines are on the disk. */
	flush(): void;
	/** Flushes and closes; closing twice does nothing. */
	close(): void;
}

/**
 * Opens the JSON lines file `path` to append to it, making it and its folder when missing.
 *
 * Lines that are not whole JSON objects (a torn last line) are dropped; with `resumeFrom`, so are lines whose `step` is that step or later.
 * Dropping rewrites the file whole or not at all; a file with nothing to drop is not touched.
 */
export async function openJsonLines(path: string, options: { resumeFrom?: number } = {}): Promise<JsonLines> {
	const { kept, dropped, torn } = keepLines(await readBytes(path), options.resumeFrom ?? Number.POSITIVE_INFINITY);
	if (dropped > 0 || torn) {
		await writeWhole(path, Buffer.concat(kept.flatMap((line) => [line, newline])));
	}
	try {
		await makeFolder(dirname(path));
		return appender(path, dropped, openSync(path, 'a'));
	} catch (error) {
		throw fileError(path, 'open', error);
	}
}

const newline = Buffer.from('\n');

function appender(path: string, dropped: number, opened: number): JsonLines {
	let fd: number | undefined = opened;
	const flush = (): void => {
		if (fd === undefined) return;
		try {
			fsyncSync(fd);
		} catch (error) {
			throw fileError(path, 'flush', error);
		}
	};
	return {
		path,
		dropped,
		append(record) {
			if (fd === undefined) throw new DiffusionPipeError('internal', 'written after it was closed', { place: path });
			// JSON has no NaN or infinity and would write null: a diverged loss must stay visible.
			const line = JSON.stringify(record, (_, value: unknown) =>
				typeof value === 'number' && !Number.isFinite(value) ? String(value) : value,
			);
			const bytes = Buffer.from(`${line}\n`);
			try {
				for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at);
			} catch (error) {
				throw fileError(path, 'write', error);
			}
		},
		flush,
		close() {
			if (fd === undefined) return;
			flush();
			closeSync(fd);
			fd = undefined;
		},
	};
}

/** The lines to keep, how many others there were, and whether the last line lacks its newline (so that appending would spoil it). */
function keepLines(bytes: Buffer, before: number): { kept: Buffer[]; dropped: number; torn: boolean } {
	const kept: Buffer[] = [];
	let dropped = 0;
	let start = 0;
	while (start < bytes.length) {
		const found = bytes.indexOf(10, start);
		const end = found === -1 ? bytes.length : found;
		const line = bytes.subarray(start, end);
		start = end + 1;
		const step = stepOf(line);
		if (step === 'not an object' || step >= before) dropped++;
		else kept.push(line);
	}
	return { kept, dropped, torn: bytes.length > 0 && bytes.at(-1) !== 10 };
}

/** The step of a line, -1 when it has none. */
function stepOf(line: Buffer): number | 'not an object' {
	try {
		const value: unknown = JSON.parse(line.toString('utf8'));
		if (typeof value !== 'object' || value === null || Array.isArray(value)) return 'not an object';
		return 'step' in value && typeof value.step === 'number' ? value.step : -1;
	} catch {
		return 'not an object';
	}
}

async function readBytes(path: string): Promise<Buffer> {
	try {
		return await readFile(path);
	} catch (error) {
		if (errorCode(error) === 'ENOENT') return Buffer.alloc(0);
		throw fileError(path, 'read', error);
	}
}
