/** @file Reads `metadata.jsonl` or `metadata.csv`, the list of images with captions and labels that Hugging Face's image folders use. */
import { readFile } from 'node:fs/promises';
import { isAbsolute, join, normalize } from 'node:path';
import { DiffusionPipeError } from '../../core/errors.ts';
import { fileError } from '../../io/file-error.ts';
import { parseCsv } from './csv.ts';
import type { Entry } from './image-folder.ts';
import type { MetadataName } from './list-folder.ts';

interface Line {
	readonly file: string;
	readonly caption: string;
	readonly label: string | number | undefined;
	readonly conditioning: string | undefined;
	readonly place: string;
}

/** Labels are indices into a table of classes, so a stray identifier must not make one of a billion rows. */
const maxLabel = 1_000_000;

/** The field with the path of an image's conditioning picture, and what it is called where the list names pictures without `_file_name`. */
export const conditioningFields = ['conditioning_image_file_name', 'conditioning_image'] as const;

/**
 * Reads the list `file` in `folder`: on each line { file_name, text?, label?, conditioning_image_file_name? }, with labels all names of classes or all
 * numbers. Named classes are sorted; numbered ones are called '0', '1' and so on. Whether the files exist shows when they are loaded.
 * @throws DiffusionPipeError naming the line that is malformed
 */
export async function readMetadata(folder: string, file: MetadataName): Promise<{ entries: Entry[]; classes: string[] | undefined }> {
	const path = join(folder, file);
	let text: string;
	try {
		text = await readFile(path, 'utf8');
	} catch (error) {
		throw fileError(path, 'read', error);
	}
	const lines = file === 'metadata.csv' ? csvLines(text, path) : jsonLines(text, path);
	if (lines.length === 0) {
		throw new DiffusionPipeError('input', 'names no images', {
			place: path,
			expected:
				file === 'metadata.csv' ? 'a line file_name,text and lines a.png,...' : '{"file_name": "a.png", "text": "..."} on each line',
		});
	}
	const classes = classNames(lines);
	const labels = new Map(classes?.map((name, label) => [name, label]));
	const entries = lines.map(({ file, caption, label, conditioning, place }): Entry => {
		const index = label === undefined ? undefined : labels.get(String(label));
		return { file, label: index ?? -1, caption, captionFile: undefined, conditioning, namedIn: place };
	});
	return { entries, classes };
}

function jsonLines(text: string, path: string): Line[] {
	return text
		.split('\n')
		.map((line, i) => ({ line, place: `${path} line ${i + 1}` }))
		.filter(({ line }) => line.trim() !== '')
		.map(({ line, place }) => {
			let value: unknown;
			try {
				value = JSON.parse(line);
			} catch (cause) {
				throw new DiffusionPipeError('input', 'is not JSON', { place, found: line.slice(0, 80), cause });
			}
			return readFields((typeof value === 'object' && value !== null ? value : {}) as Record<string, unknown>, place);
		});
}

/** Fields of such a file are all text: labels are numbers where all are, and what is empty is not given. */
function csvLines(text: string, path: string): Line[] {
	const rows = parseCsv(text, path);
	const numbered = rows.every(({ fields }) => /^\d*$/.test(fields.label ?? ''));
	return rows.map(({ fields: { label, ...fields }, line }) => {
		const given = label === undefined || label === '' ? {} : { label: numbered ? Number(label) : label };
		const present = Object.fromEntries(Object.entries(fields).filter(([name, value]) => name === 'text' || value !== ''));
		return readFields({ ...present, ...given }, `${path} line ${line}`);
	});
}

function readFields(fields: Readonly<Record<string, unknown>>, place: string): Line {
	const bad = (field: string, expected: string): never => {
		throw new DiffusionPipeError('input', `${field} is malformed`, { place, expected, found: JSON.stringify(fields[field]) ?? 'nothing' });
	};
	const { file_name: name, text = '', label } = fields;
	const inside = 'the path of an image, relative to the folder and inside it';
	if (!isInside(name)) return bad('file_name', inside);
	const field = conditioningFields.find((known) => fields[known] !== undefined && fields[known] !== null);
	const conditioning = field && fields[field];
	if (field && !isInside(conditioning)) return bad(field, inside);
	if (typeof text !== 'string') return bad('text', 'a caption');
	const line = { file: name, caption: text, conditioning: conditioning as string | undefined, place };
	if (label === undefined || label === null) return { ...line, label: undefined };
	if (typeof label === 'string') return { ...line, label };
	if (typeof label === 'number' && Number.isInteger(label) && label >= 0 && label < 2 ** 31) return { ...line, label };
	return bad('label', `the name of a class, or a whole number from 0 to ${maxLabel - 1}`);
}

/** The list may come from somewhere else: it must not reach files outside the folder. */
function isInside(name: unknown): name is string {
	return typeof name === 'string' && name !== '' && !isAbsolute(name) && !/^\.\.([\\/]|$)/.test(normalize(name));
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
