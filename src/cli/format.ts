/** @file Numbers, sizes, times and tables as people read them. */

export { formatBytes } from '../core/units.ts';

/** `12.3 M`: a count with a factor of a thousand. */
export function formatCount(count: number): string {
	const units = ['', ' k', ' M', ' G', ' T'];
	let value = count;
	let unit = 0;
	while (value >= 999.5 && unit < units.length - 1) {
		value /= 1000;
		unit++;
	}
	return unit === 0 ? String(Math.round(value)) : `${value.toPrecision(3)}${units[unit]}`;
}

/** `850 ms`, `12 s`, `3m 05s`, `2h 07m`, from seconds. */
export function formatSeconds(seconds: number): string {
	if (!Number.isFinite(seconds)) return '?';
	if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
	if (seconds < 59.5) return `${Math.round(seconds)} s`;
	const two = (n: number) => String(n).padStart(2, '0');
	const whole = Math.round(seconds);
	if (whole < 3600) return `${Math.floor(whole / 60)}m ${two(whole % 60)}s`;
	const minutes = Math.round(seconds / 60);
	return `${Math.floor(minutes / 60)}h ${two(minutes % 60)}m`;
}

/** A number with four significant digits, without trailing noise. */
export function formatNumber(value: number): string {
	if (!Number.isFinite(value)) return String(value);
	const size = Math.abs(value);
	return size !== 0 && (size < 1e-3 || size >= 1e6) ? value.toExponential(2) : value.toPrecision(4);
}

/** Rows as lines with aligned columns; `right` names the columns (from 0) aligned to the right. */
export function formatTable(rows: readonly (readonly string[])[], right: readonly number[] = []): string[] {
	const widths = rows.reduce<number[]>((w, row) => row.map((cell, i) => Math.max(w[i] ?? 0, cell.length)), []);
	return rows.map((row) =>
		row
			.map((cell, i) => (right.includes(i) ? cell.padStart(widths[i]!) : cell.padEnd(widths[i]!)))
			.join('  ')
			.trimEnd(),
	);
}

/** `1 step`, `2 steps`. */
export function plural(count: number, noun: string): string {
	return `${count} ${noun}${count === 1 ? '' : 's'}`;
}

/** A word of a command line, quoted when a shell would take it apart. */
export function shellWord(text: string): string {
	return /^[\w./:=@%+,-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
