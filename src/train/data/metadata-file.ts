/** @file Reads `metadata.jsonl`, the list of images with captions and labels that Hugging Face's image folders use. */
import { readFile } from 'node:fs/promises';
import { isAbsolute, join, normalize } from 'node:path';
import { DiffusionPipeError } from '../../core/errors.ts';
import { fileError } from '../../io/file-error.ts';
import type { Entry } from './image-folder.ts';

interface Line {
	readonly file: string;
	readonly caption: string;
	readonly label: string | number | undefined;
	readonly place: string;
}

/** Labels are indices into a table of classes, so a stray identifier must not make one of a billion rows. */
const maxLabel = 1_000_000;

/**
 * Reads `metadata.jsonl` in `folder`: on each line { file_name, text?, label? }, with labels all names of classes or all numbers. Named classes are
 * sorted; numbered ones are called '0', '1' and so on. Whether the files exist shows when they are loaded.
 * @throws DiffusionPipeError naming the line that is malformed
 */
export async function readMetadata(folder: string): Promise<{ entries: Entry[]; classes: string[] | undefined }> {
	const path = join(folder, 'metadata.jsonl');
	let text: string;
	try {
		text = await readFile(path, 'utf8');
	} catch (error) {
		throw fileError(path, 'read', error);
	}
	const lines = text
		.split('\n')
		.map((line, i) => ({ line, place: `${path} line ${i + 1}` }))
		.filter(({ line }) => line.trim() !== '')
		.map(({ line, place }) => parseLine(line, place));
	if (lines.length === 0) {
		throw new DiffusionPipeError('input', 'names no images', {
			place: path,
			expected: '{"file_name": "a.png", "text": "..."} on each line',
		});
	}
	const classes = classNames(lines);
	const labels = new Map(classes?.map((name, label) => [name, label]));
	const entries = lines.map(({ file, caption, label, place }): Entry => {
		const index = label === undefined ? undefined : labels.get(String(label));
		return { file, label: index ?? -1, caption, captionFile: undefined, namedIn: place };
	});
	return { entries, classes };
}

function parseLine(line: string, place: string): Line {
	let value: unknown;
	try {
		value = JSON.parse(line);
	} catch (cause) {
		throw new DiffusionPipeError('input', 'is not JSON', { place, found: line.slice(0, 80), cause });
	}
	const fields = (typeof value === 'object' && value !== null ? value : {}) as Record<string, unknown>;
	const bad = (field: string, expected: string): never => {
		throw new DiffusionPipeError('input', `${field} is malformed`, { place, expected, found: JSON.stringify(fields[field]) ?? 'nothing' });
	};
	const { file_name: name, text = '', label } = fields;
	// The list may come from somewhere else: it must not reach files outside the folder.
	if (typeof name !== 'string' || name === '' || isAbsolute(name) || /^\.\.([\\/]|$)/.test(normalize(name))) {
		return bad('file_name', 'the path of an image, relative to the folder and inside it');
	}
	if (typeof text !== 'string') return bad('text', 'a caption');
	if (label === undefined || label === null) return { file: name, caption: text, label: undefined, place };
	if (typeof label === 'string') return { file: name, caption: text, label, place };
	if (typeof label === 'number' && Number.isInteger(label) && label >= 0 && label < 2 ** 31)
		return { file: name, caption: text, label, place };
	return bad('label', `the name of a class, or a whole number from 0 to ${maxLabel - 1}`);
}

function classNames(lines: readonly Line[]): string[] | undefined {
	const labelled = lines.filter((line) => line.label !== undefined);
	const first = labelled[0];
	if (first === undefined) return undefined;
	const other = labelled.find((line) => typeof line.label !== typeof first.label);
	if (other !== undefined) {
		throw new DiffusionPipeError('input', 'the labels are partly names and partly numbers', {
			place: other.place,
			expected: `a ${typeof first.label} as on the lines before`,
			found: JSON.stringify(other.label),
		});
	}
	if (typeof first.label === 'string') return [...new Set(labelled.map((line) => String(line.label)))].sort();
	let last = 0;
	for (const { label } of labelled) last = Math.max(last, Number(label));
	return Array.from({ length: last + 1 }, (_, i) => String(i));
}
