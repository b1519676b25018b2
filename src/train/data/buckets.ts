/** @file Images of several sizes: which size an image is brought to, and which steps train on which. */
import { randomStream } from '../../core/random.ts';
import type { Bucket, DataSet, PixelSize } from './types.ts';

/**
 * The size among `sizes` that an image loses least by: of the aspect ratio nearest to its own (as a quotient), and of those the largest that it need not be
 * enlarged for, or else the smallest.
 */
export function nearestSize(image: PixelSize, sizes: readonly PixelSize[]): number {
	const distance = (size: PixelSize) => Math.abs(Math.log((image.width * size.height) / (image.height * size.width)));
	const nearest = Math.min(...sizes.map(distance));
	const alike = sizes.map((size, i) => ({ size, i })).filter(({ size }) => distance(size) < nearest + 1e-9);
	const area = ({ size }: { size: PixelSize }) => size.height * size.width;
	const fitting = alike.filter(({ size }) => size.height <= image.height && size.width <= image.width);
	const [best] = fitting.length > 0 ? fitting.sort((a, b) => area(b) - area(a)) : alike.sort((a, b) => area(a) - area(b));
	return best!.i;
}

/** `sizes` that occur in `chosen` (an index into them per example), and each example's index among those. */
export function occupied(
	sizes: readonly PixelSize[],
	chosen: readonly number[],
): { buckets: Bucket[]; bucketOf: (index: number) => number } {
	const counts = sizes.map((_, s) => chosen.filter((c) => c === s).length);
	const kept = sizes.map((_, s) => s).filter((s) => counts[s]! > 0);
	return {
		buckets: kept.map((s) => ({ height: sizes[s]!.height, width: sizes[s]!.width, size: counts[s]! })),
		bucketOf: (index) => kept.indexOf(chosen[index]!),
	};
}

/** Where a step's examples are: [start, start + batch size) of the permutations of a bucket's examples, one after the other. */
export interface BucketStep {
	readonly bucket: number;
	readonly start: number;
}

/**
 * The function from steps to buckets. Every bucket gives as many batches in a row of steps as hold its examples once, the last one filled up from its next
 * permutation; in which order they come is drawn anew for each row (stream `data.buckets`).
 */
export function bucketSteps(buckets: readonly Bucket[], seed: number | bigint, batchSize: number): (step: number) => BucketStep {
	const each = buckets.map(({ size }) => Math.ceil(size / batchSize));
	const row = each.flatMap((count, b) => new Array<number>(count).fill(b));
	const stream = randomStream(seed, 'data.buckets');
	return (step) => {
		const turn = Math.floor(step / row.length);
		const order = stream.permutation(turn, row.length);
		const place = step % row.length;
		const bucket = row[order[place]!]!;
		let before = 0;
		for (let i = 0; i < place; i++) if (row[order[i]!] === bucket) before++;
		return { bucket, start: (turn * each[bucket]! + before) * batchSize };
	};
}

/** The examples of each bucket of a data set; one bucket of all where it has one size. */
export function membersOf({ size, buckets, bucketOf }: DataSet): readonly (readonly number[])[] {
	const members = (buckets ?? [0]).map((): number[] => []);
	for (let i = 0; i < size; i++) members[buckets && bucketOf ? bucketOf(i) : 0]!.push(i);
	return members;
}
