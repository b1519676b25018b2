/** @file Summaries of repeated measurements. */

/** Middle value; the mean of the two middle ones when the count is even. */
export function median(values) {
	const sorted = [...values].sort((a, b) => a - b);
	const half = sorted.length >> 1;
	return sorted.length % 2 === 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

/** Geometric mean of positive numbers: the mean for ratios. */
export function geometricMean(values) {
	return Math.exp(values.reduce((sum, v) => sum + Math.log(v), 0) / values.length);
}

/** `value` with `digits` significant digits, as a number. */
export function significant(value, digits = 4) {
	return Number(value.toPrecision(digits));
}
