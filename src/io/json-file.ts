/** @file Reads and writes small JSON files with errors that name the file. */
import { readFile } from 'node:fs/promises';
import { DiffusionPipeError } from '../core/errors.ts';
import { writeWhole } from './atomic.ts';
import { fileError } from './file-error.ts';

/**
 * The parsed content of the JSON file `path`.
 * @throws DiffusionPipeError of kind 'input' when the file cannot be read or is not JSON
 */
export async function readJson(path: string): Promise<unknown> {
	let text: string;
	try {
		text = await readFile(path, 'utf8');
	} catch (error) {
		throw fileError(path, 'read', error);
	}
	try {
		return JSON.parse(text);
	} catch (cause) {
		throw new DiffusionPipeError('input', 'is not JSON', { place: path, found: (cause as Error).message, cause });
	}
}

/** Like `readJson`, for files that must hold an object. */
export async function readJsonObject(path: string): Promise<Record<string, unknown>> {
	const value = await readJson(path);
	if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
	throw new DiffusionPipeError('input', 'holds no object', {
		place: path,
		expected: 'a JSON object',
		found: JSON.stringify(value).slice(0, 80),
	});
}

/** Writes `value` as JSON indented by two, whole or not at all. */
export async function writeJson(path: string, value: unknown): Promise<void> {
	await writeWhole(path, `${JSON.stringify(value, null, 2)}\n`);
}
