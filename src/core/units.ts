/** @file Times and sizes as people read them. */

/** `1.2 GB`; decimal units, as disks and networks are sold. */
export function formatBytes(bytes: number): string {
	const units = ['B', 'kB', 'MB', 'GB', 'TB'];
	let value = bytes;
	let unit = 0;
	while (value >= 999.5 && unit < units.length - 1) {
		value /= 1000;
		unit++;
	}
	return `${unit === 0 || value >= 99.5 ? Math.round(value) : value.toPrecision(value >= 9.95 ? 3 : 2)} ${units[unit]}`;
}

/** `0.25 ms`, `12.5 ms`, `830.1 ms`, `12.34 s`: milliseconds with about four digits; `never` when infinite. */
export function formatMs(ms: number): string {
	if (!Number.isFinite(ms)) return 'never';
	const [value, unit] = Math.abs(ms) >= 9999.5 ? [ms / 1000, 's'] : [ms, 'ms'];
	const size = Math.abs(value);
	return `${Number(value.toFixed(size < 1 ? 3 : size < 100 ? 2 : size < 1000 ? 1 : 0))} ${unit}`;
}

/** `12.3 %` for 0.123. */
export function formatShare(share: number): string {
	return `${(100 * share).toFixed(1)} %`;
}
