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

/** Name of a size. */
export function sizeKey({ height, width }: PixelSize): string {
	return `${height}x${width}`;
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

/** What the order of steps over buckets is made from. */
export interface BucketOrder {
	readonly buckets: readonly Bucket[];
	readonly seed: number | bigint;
	/** Examples of a step. */
	readonly batchSize: number;
	/** Steps of one bucket that come in a row, at most; 1 unless given. */
	readonly runLength?: number | undefined;
}

/** Steps [from, to) of a row train on a bucket, of whose steps in the row `before` come before them. */
interface BucketRun {
	readonly bucket: number;
	readonly from: number;
	readonly to: number;
	readonly before: number;
}

/** Steps of each bucket in a row, of all, and the runs of a row in their order; that of the last row asked for is kept. */
function rowsOf({ buckets, seed, batchSize, runLength = 1 }: BucketOrder) {
	const each = buckets.map(({ size }) => Math.ceil(size / batchSize));
	const lengths = each.flatMap((count, bucket) => {
		const parts = Math.ceil(count / runLength);
		const bound = (part: number) => Math.round((part * count) / parts);
		return Array.from({ length: parts }, (_, part) => ({ bucket, steps: bound(part + 1) - bound(part) }));
	});
	const stream = randomStream(seed, 'data.buckets');
	let known: { readonly row: number; readonly runs: readonly BucketRun[] } | undefined;
	const runs = (row: number): readonly BucketRun[] => {
		if (known?.row === row) return known.runs;
		const done = each.map(() => 0);
		let from = 0;
		const ordered = Array.from(stream.permutation(row, lengths.length), (at): BucketRun => {
			const { bucket, steps } = lengths[at]!;
			const run = { bucket, from, to: from + steps, before: done[bucket]! };
			from += steps;
			done[bucket]! += steps;
			return run;
		});
		known = { row, runs: ordered };
		return ordered;
	};
	return { each, length: each.reduce((a, b) => a + b, 0), runs };
}

/**
 * The function from steps to buckets. Every bucket gives as many batches in a row of steps as hold its examples once, the last one filled up from its next
 * permutation. A bucket's batches come in as few runs as have `runLength` steps at most, of equal length within one; in which order the runs come is drawn anew
 * for each row (stream `data.buckets`).
 */
export function bucketSteps(order: BucketOrder): (step: number) => BucketStep {
	const { each, length, runs } = rowsOf(order);
	return (step) => {
		const row = Math.floor(step / length);
		const at = step % length;
		const { bucket, from, before } = runs(row).find(({ to }) => at < to)!;
		return { bucket, start: (row * each[bucket]! + before + at - from) * order.batchSize };
	};
}

/** How many of the first `steps` steps train on each bucket. */
export function stepsOfBuckets(order: BucketOrder, steps: number): number[] {
	const { each, length, runs } = rowsOf(order);
	const row = Math.floor(steps / length);
	const counts = each.map((count) => row * count);
	for (const { bucket, from, to } of runs(row)) counts[bucket]! += Math.max(0, Math.min(to, steps % length) - from);
	return counts;
}

/** The examples of each bucket of a data set; one bucket of all where it has one size. */
export function membersOf({ size, buckets, bucketOf }: DataSet): readonly (readonly number[])[] {
	const members = (buckets ?? [0]).map((): number[] => []);
	for (let i = 0; i < size; i++) members[buckets && bucketOf ? bucketOf(i) : 0]!.push(i);
	return members;
}
