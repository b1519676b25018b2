/** @file Plain text tables. */

/** Rows (objects with the same keys) as lines: numbers to the right with at most three decimals, words to the left. */
export function table(rows) {
	if (rows.length === 0) return '';
	const keys = Object.keys(rows[0]);
	const cells = rows.map((row) => keys.map((k) => text(row[k])));
	const widths = keys.map((k, i) => Math.max(k.length, ...cells.map((c) => c[i].length)));
	const right = keys.map((k) => rows.every((row) => row[k] === undefined || typeof row[k] === 'number'));
	const line = (parts) =>
		parts
			.map((p, i) => (right[i] ? p.padStart(widths[i]) : p.padEnd(widths[i])))
			.join('  ')
			.trimEnd();
	return [line(keys), line(widths.map((w) => '-'.repeat(w))), ...cells.map(line)].join('\n');
}

function text(value) {
	if (value === undefined) return '';
	if (typeof value !== 'number') return String(value);
	if (Number.isInteger(value)) return String(value);
	const digits = Math.abs(value) >= 1000 ? 0 : Math.abs(value) >= 100 ? 1 : Math.abs(value) >= 1e-3 ? 3 : undefined;
	return digits === undefined ? value.toExponential(2) : value.toFixed(digits);
}
