import { expect, it } from 'vitest';
import { rowCache } from '../../src/train/row-cache.ts';

/** A cache whose computed rows hold the code of their key and how many rows were computed before. */
function counting(bytes: number) {
	const asked: string[][] = [];
	let computed = 0;
	const cache = rowCache(bytes);
	const rows = async (...keys: string[]) =>
		(
			await cache(keys, async (places) => {
				asked.push(places.map((place) => keys[place]!));
				const batch = Float32Array.from(places.flatMap((place) => [keys[place]!.charCodeAt(0), computed++]));
				return places.map((_, i) => batch.subarray(2 * i, 2 * i + 2));
			})
		).map((row) => [String.fromCharCode(row[0]!), row[1]]);
	return { rows, asked };
}

it('computes a row once, in a batch or over batches, and gives rows in the order asked for', async () => {
	const { rows, asked } = counting(1000);
	expect(await rows('a', 'b', 'a')).toEqual([
		['a', 0],
		['b', 1],
		['a', 0],
	]);
	expect(await rows('c', 'b', 'a')).toEqual([
		['c', 2],
		['b', 1],
		['a', 0],
	]);
	expect(await rows('c')).toEqual([['c', 2]]);
	expect(asked).toEqual([['a', 'b'], ['c']]);
});

it('keeps no more than it may, and what it has', async () => {
	const { rows, asked } = counting(2 * 8);
	await rows('a', 'b', 'c');
	expect(await rows('a', 'b', 'c')).toEqual([
		['a', 0],
		['b', 1],
		['c', 3],
	]);
	expect(asked).toEqual([['a', 'b', 'c'], ['c']]);
});
