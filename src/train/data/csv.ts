/** @file Reads comma-separated values (RFC 4180). */
import { DiffusionPipeError } from '../../core/errors.ts';

/** A row's fields by the names of the first line, and the line of the file that it begins on, counted from 1. */
export interface CsvRow {
	readonly fields: Readonly<Record<string, string>>;
	readonly line: number;
}

/**
 * The rows of a file whose first line names the columns. Fields may stand in double quotes, and then hold commas, line breaks and doubled quotes; empty lines
 * are passed over.
 * @throws DiffusionPipeError of kind 'input' naming the line that has too few or too many fields, or whose quotes do not close
 */
export function parseCsv(text: string, path: string): CsvRow[] {
	const records = recordsOf(text.replace(/^\uFEFF/, ''), path);
	const [head, ...rows] = records.filter(({ values }) => values.length > 1 || values[0] !== '');
	if (!head) return [];
	return rows.map(({ values, line }) => {
		if (values.length !== head.values.length) {
			throw new DiffusionPipeError('input', 'a row has another number of fields than the first line', {
				place: `${path} line ${line}`,
				expected: `${head.values.length}: ${head.values.join(', ')}`,
				found: String(values.length),
			});
		}
		return { fields: Object.fromEntries(head.values.map((name, i) => [name, values[i]!])), line };
	});
}

function recordsOf(text: string, path: string): { values: string[]; line: number }[] {
	const records: { values: string[]; line: number }[] = [];
	// A field, quoted or plain, and what ends it.
	const field = /(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r?\n|\r|$)/y;
	let values: string[] = [];
	let [line, begins] = [1, 1];
	while (field.lastIndex <= text.length) {
		const at = field.lastIndex;
		const match = field.exec(text);
		if (!match) {
			throw new DiffusionPipeError('input', 'a field is malformed', {
				place: `${path} line ${line}`,
				expected: 'text without quotes, or all of it in double quotes, with quotes in it doubled',
				found: text.slice(at, at + 40),
			});
		}
		const [whole, quoted, plain = '', end] = match;
		values.push(quoted === undefined ? plain : quoted.replaceAll('""', '"'));
		line += whole.match(/\r\n|\n|\r/g)?.length ?? 0;
		if (end === ',') continue;
		records.push({ values, line: begins });
		[values, begins] = [[], line];
		if (end === '' || field.lastIndex === text.length) break;
	}
	return records;
}
