/** @file The batch of a step as a pure function of data set, seed, batch size and step, so that a run resumed anywhere sees what it would have seen. */
import { DiffusionPipeError } from '../../core/errors.ts';
import { randomStream } from '../../core/random.ts';
import { type BucketStep, bucketSteps, membersOf } from './buckets.ts';
import { exampleCache, type OnBroken } from './example-cache.ts';
import type { Batch, DataSet, Example } from './types.ts';

/** What determines the batches. */
export interface BatchOptions {
	readonly seed: number | bigint;
	/** Examples in a batch over all devices. */
	readonly batchSize: number;
	/** Mirror half of the images left to right. Default false. */
	readonly flip?: boolean;
}

/** What does not change the batches. */
export interface BatchResources {
	/** Bytes of decoded pixels to keep in memory. */
	readonly cacheBytes: number;
	/** Images decoded at the same time. */
	readonly decoders: number;
	readonly onBroken: OnBroken;
	/** When aborted, batches under way are rejected with its reason. */
	readonly signal?: AbortSignal;
}

/**
 * The function from steps to batches.
 *
 * The epochs' permutations (stream `data.order`), one after the other, are cut into batches, which may reach over the end of an epoch. An
 * example that is broken is replaced by the next good one in the same permutation, round its end if need be. A data set of several sizes has permutations
 * for each, and steps as `bucketSteps` has them. Example i of step s is mirrored when
 * stream `data.flip` gives less than 1/2 at (s, i).
 * @throws (the returned function) DiffusionPipeError of kind 'input' when every example is broken
 */
export function batchMaker(dataSet: DataSet, options: BatchOptions, resources: BatchResources): (step: number) => Promise<Batch> {
	const { seed, batchSize, flip = false } = options;
	const { cacheBytes, decoders, onBroken, signal } = resources;
	const { buckets, bucketRunLength } = dataSet;
	const members = membersOf(dataSet);
	const orders = members.map(({ length }, b) => permutations(randomStream(seed, buckets ? `data.order.${b}` : 'data.order'), length));
	const bucketAt = buckets
		? bucketSteps({ buckets, seed, batchSize, runLength: bucketRunLength })
		: (step: number): BucketStep => ({ bucket: 0, start: step * batchSize });
	const flips = randomStream(seed, 'data.flip');
	const load = exampleCache(dataSet, cacheBytes, onBroken);
	const exampleAt = async (bucket: number, position: number): Promise<Example> => {
		const own = members[bucket]!;
		const permutation = orders[bucket]!(Math.floor(position / own.length));
		const first = position % own.length;
		for (let k = 0; k < own.length; k++) {
			signal?.throwIfAborted();
			const example = await load(own[permutation[(first + k) % own.length]!]!);
			if (example !== undefined) return example;
		}
		throw new DiffusionPipeError('input', 'not one image can be loaded', {
			place: dataSet.name,
			found: `${members[bucket]!.length} broken files`,
			hint: 'see the reports on the files before this',
		});
	};

	return async (step) => {
		if (!Number.isSafeInteger(step) || step < 0 || !Number.isSafeInteger((step + 1) * batchSize)) {
			throw new DiffusionPipeError('internal', 'no such step', {
				place: dataSet.name,
				expected: 'a whole number from 0',
				found: String(step),
			});
		}
		const { bucket, start } = bucketAt(step);
		const examples = await mapLimited(batchSize, decoders, (i) => exampleAt(bucket, start + i));
		const { height, width } = buckets?.[bucket] ?? dataSet;
		const length = dataSet.channels * height * width;
		const images = new Float32Array(batchSize * length);
		const mirrored = examples.map((_, i) => flip && flips.uniform(step, i) < 0.5);
		const pictureLength = 3 * height * width;
		const conditioning = dataSet.conditioned ? new Float32Array(batchSize * pictureLength) : undefined;
		for (const [i, { image, conditioning: picture }] of examples.entries()) {
			images.set(image, i * length);
			if (picture) conditioning?.set(picture, i * pictureLength);
		}
		for (const i of mirrored.flatMap((yes, i) => (yes ? [i] : []))) {
			mirror(images.subarray(i * length, (i + 1) * length), width);
			if (conditioning) mirror(conditioning.subarray(i * pictureLength, (i + 1) * pictureLength), width);
		}
		return {
			step,
			height,
			width,
			images,
			...(conditioning ? { conditioning } : {}),
			labels: Int32Array.from(examples, (example) => example.label),
			captions: examples.map((example) => example.caption),
			names: examples.map((example) => example.name),
			mirrored,
		};
	};
}

/** Permutations by epoch, the last two kept: a batch may reach from one epoch into the next. */
function permutations(stream: { permutation(epoch: number, n: number): Uint32Array }, size: number): (epoch: number) => Uint32Array {
	const known = new Map<number, Uint32Array>();
	return (epoch) => {
		let order = known.get(epoch);
		if (order === undefined) {
			order = stream.permutation(epoch, size);
			known.set(epoch, order);
			if (known.size > 2) known.delete(known.keys().next().value!);
		}
		return order;
	};
}

/** Reverses each row in place. */
function mirror(image: Float32Array, width: number): void {
	for (let row = 0; row < image.length; row += width) image.subarray(row, row + width).reverse();
}

/** [use(0), ..., use(count - 1)], at most `limit` at a time; after a failure no more are begun. */
async function mapLimited<T>(count: number, limit: number, use: (i: number) => Promise<T>): Promise<T[]> {
	const out = new Array<T>(count);
	let next = 0;
	const work = async (): Promise<void> => {
		try {
			while (next < count) {
				const i = next++;
				out[i] = await use(i);
			}
		} catch (error) {
			next = count;
			throw error;
		}
	};
	await Promise.all(Array.from({ length: Math.min(limit, count) }, work));
	return out;
}
