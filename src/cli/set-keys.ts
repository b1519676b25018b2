/** @file `--set table.key=value`: one key of a config changed from the command line. */
import { parse, TomlDate } from 'smol-toml';
import { DiffusionPipeError, nearestName } from '../core/errors.ts';
import { configKeys } from '../train/config.ts';

type Table = Record<string, unknown>;

/** Keys outside all tables. */
const topKeys = ['output_dir', 'seed'];
/** Tables whose keys their own readers know: a model's config.json, a scheduler's, a data set's options, the second model of a cascade. */
const openTables = ['model', 'scheduler', 'data', 'super_resolution'];

/**
 * A copy of the parsed document `raw` with every `key=value` of `sets` put in, the later over the earlier.
 * @throws DiffusionPipeError of kind 'usage' when one is not of that form, 'config' when the key does not exist, naming the nearest
 */
export function applySets(raw: Readonly<Table>, sets: readonly string[]): Table {
	const result = structuredClone(raw) as Table;
	for (const set of sets) {
		const at = set.indexOf('=');
		if (at < 1)
			throw new DiffusionPipeError('usage', 'is not a key and a value', { place: `--set ${set}`, expected: '--set table.key=value' });
		const path = set.slice(0, at).trim().split('.');
		checkKey(path);
		put(result, path, readValue(set.slice(at + 1)));
	}
	return result;
}

/** A TOML value as it would stand in the file; what is none is text, so that paths and names need no quotes. */
export function readValue(text: string): unknown {
	let document: Table;
	try {
		document = parse(`value = ${text}`);
	} catch {
		return text;
	}
	const { value, ...others } = document;
	// A line break in the text could bring further keys; a date is more likely a name that looks like one.
	return Object.keys(others).length > 0 || value instanceof TomlDate ? text : value;
}

function checkKey(path: readonly string[]): void {
	const [first = '', second] = path;
	const key = path.join('.');
	const wellFormed = path.every((part) => /^[A-Za-z0-9_-]+$/.test(part) && part !== '__proto__');
	const tables = configKeys();
	if (wellFormed) {
		if (path.length === 1 && topKeys.includes(first)) return;
		if (path.length > 1 && openTables.includes(first)) return;
		if (path.length === 2 && Object.hasOwn(tables, first) && tables[first]!.includes(second!)) return;
	}
	const dotted = [...topKeys, ...Object.entries(tables).flatMap(([table, keys]) => keys.map((k) => `${table}.${k}`))];
	const last = path.at(-1)!;
	const elsewhere = dotted.find((known) => known.endsWith(`.${last}`));
	const near = elsewhere ?? nearestName(key, dotted);
	throw new DiffusionPipeError('config', 'there is no such key', {
		place: `--set ${key}`,
		expected: keysToName(first, tables).join(', '),
		...(near ? { hint: `did you mean ${near}?` } : {}),
	});
}

/** What could have been meant: the keys of the table named, or the tables. */
function keysToName(table: string, tables: Readonly<Record<string, readonly string[]>>): string[] {
	if (Object.hasOwn(tables, table)) return tables[table]!.map((key) => `${table}.${key}`);
	return [...topKeys, ...openTables.map((name) => `${name}.KEY`), ...Object.keys(tables).map((name) => `${name}.KEY`)];
}

function put(document: Table, path: readonly string[], value: unknown): void {
	let table = document;
	for (const [i, key] of path.slice(0, -1).entries()) {
		const inner = Object.hasOwn(table, key) ? table[key] : undefined;
		if (inner === undefined) table[key] = {};
		else if (typeof inner !== 'object' || inner === null || Array.isArray(inner)) {
			throw new DiffusionPipeError('config', 'is a value, not a table', {
				place: path.slice(0, i + 1).join('.'),
				found: JSON.stringify(inner),
			});
		}
		table = table[key] as Table;
	}
	table[path.at(-1)!] = value;
}
