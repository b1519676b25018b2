/** @file What encoders and decoders are judged by: peak signal-to-noise ratio of pictures, and retrieval of pictures by their captions. */

/** Peak signal-to-noise ratio in dB of pictures with values in [-1, 1] (so a peak of 2): the mean over the pictures of each one's own. */
export function meanPsnr(found: Float32Array, wanted: Float32Array, pictures: number): number {
	const length = wanted.length / pictures;
	let sum = 0;
	for (let p = 0; p < pictures; p++) {
		let squares = 0;
		for (let i = p * length; i < (p + 1) * length; i++) squares += (found[i]! - wanted[i]!) ** 2;
		sum += 10 * Math.log10((4 * length) / Math.max(squares, 1e-12));
	}
	return sum / pictures;
}

/**
 * The share of queries whose own candidate (the one of the same index) is among the `top` candidates of largest cosine similarity. Both are rows of
 * `width` numbers, of any norm. Chance is `top` over the number of candidates.
 */
export function retrievalRate(queries: Float32Array, candidates: Float32Array, width: number, top: number): number {
	const count = queries.length / width;
	const [q, c] = [unitRows(queries, width), unitRows(candidates, width)];
	let found = 0;
	for (let i = 0; i < count; i++) {
		const own = dot(q, i, c, i, width);
		let better = 0;
		for (let j = 0; j < count && better < top; j++) if (j !== i && dot(q, i, c, j, width) >= own) better++;
		if (better < top) found++;
	}
	return found / count;
}

function unitRows(rows: Float32Array, width: number): Float32Array {
	const out = rows.slice();
	for (let at = 0; at < out.length; at += width) {
		const row = out.subarray(at, at + width);
		const norm = Math.hypot(...row) || 1;
		for (let k = 0; k < width; k++) row[k]! /= norm;
	}
	return out;
}

function dot(a: Float32Array, i: number, b: Float32Array, j: number, width: number): number {
	let sum = 0;
	for (let k = 0; k < width; k++) sum += a[i * width + k]! * b[j * width + k]!;
	return sum;
}
