/** @file Examples set aside for evaluation, chosen by their names alone, so that the choice is the same whatever else is in the data set and wherever it lies. */
import { DiffusionPipeError } from '../../core/errors.ts';
import { randomStream } from '../../core/random.ts';
import { occupied } from './buckets.ts';
import type { DataSet } from './types.ts';

/** Which examples are meant. */
export interface Holdout {
	/** Below 1 the share of names set aside, from 1 on their number. */
	readonly size: number;
	/** The rest, or what is set aside. */
	readonly keep: 'train' | 'held-out';
}

/** A number in [0, 1) that is a function of the name. */
const numberOf = (name: string) => randomStream(0, `holdout.${name}`).uniform(0, 0);

/**
 * The part of `dataSet` that `holdout` means. With a share, an example is set aside or not by its own name, so more data changes nothing for what is
 * there; with a number, those whose names come first in a fixed random order are.
 * @throws DiffusionPipeError of kind 'config' when a part has no example
 */
export function partOf(dataSet: DataSet, { size, keep }: Holdout): DataSet {
	const all = Array.from({ length: dataSet.size }, (_, index) => ({ index, number: numberOf(dataSet.nameOf(index)) }));
	const inOrder = [...all].sort((a, b) => a.number - b.number || a.index - b.index);
	const heldOut = new Set((size < 1 ? inOrder.filter(({ number }) => number < size) : inOrder.slice(0, size)).map(({ index }) => index));
	if (heldOut.size === 0 || heldOut.size === dataSet.size) {
		throw new DiffusionPipeError('config', heldOut.size === 0 ? 'sets no example aside' : 'leaves no example to train on', {
			place: 'eval.holdout',
			expected: `a share or number of ${dataSet.size} examples`,
			found: String(size),
		});
	}
	const kept = all.filter(({ index }) => heldOut.has(index) === (keep === 'held-out')).map(({ index }) => index);
	const part = {
		...dataSet,
		size: kept.length,
		nameOf: (i: number) => dataSet.nameOf(kept[i]!),
		load: (i: number) => dataSet.load(kept[i]!),
	};
	const { buckets, bucketOf } = dataSet;
	return buckets && bucketOf ? { ...part, ...occupied(buckets, kept.map(bucketOf)) } : part;
}
