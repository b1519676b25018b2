/** @file Keeps loaded examples in memory up to a limit, and remembers which cannot be loaded. */
import { DiffusionPipeError } from '../../core/errors.ts';
import type { DataSet, Example } from './types.ts';

/** Called once for each example that cannot be loaded. */
export type OnBroken = (name: string, reason: string) => void;

/**
 * Loads examples by index, each at most once at a time. Until `limitBytes` of pixels are held, what was loaded is kept for good; nothing is thrown
 * out for something newer, since an epoch visits every example once and so the newest is the one needed last.
 * @returns the example, or undefined when it is broken: its file missing, damaged or of the wrong size. A failure of the machine (too many open
 * files) is thrown instead, because it says nothing of the file.
 */
export function exampleCache(dataSet: DataSet, limitBytes: number, onBroken: OnBroken): (index: number) => Promise<Example | undefined> {
	const kept = new Map<number, Example>();
	const loading = new Map<number, Promise<Example | undefined>>();
	const broken = new Set<number>();
	let bytes = 0;

	const load = async (index: number): Promise<Example | undefined> => {
		let example: Example;
		try {
			example = await dataSet.load(index);
			const { height, width } = dataSet.buckets?.[dataSet.bucketOf?.(index) ?? 0] ?? dataSet;
			const length = dataSet.channels * height * width;
			if (example.image.length !== length) {
				throw new DiffusionPipeError('input', 'the image has the wrong size', {
					place: example.name,
					expected: `${length} values`,
					found: `${example.image.length}`,
				});
			}
			if (dataSet.conditioned && example.conditioning?.length !== 3 * height * width) {
				throw new DiffusionPipeError('input', 'the conditioning picture has the wrong size', {
					place: example.name,
					expected: `${3 * height * width} values`,
					found: `${example.conditioning?.length ?? 0}`,
				});
			}
		} catch (error) {
			if (error instanceof DiffusionPipeError && error.kind !== 'input') throw error;
			broken.add(index);
			const place = error instanceof DiffusionPipeError ? error.parts.place : `${dataSet.name} ${index}`;
			onBroken(place, error instanceof Error ? error.message : String(error));
			return undefined;
		}
		const own = example.image.byteLength + (example.conditioning?.byteLength ?? 0);
		if (bytes + own <= limitBytes) {
			bytes += own;
			kept.set(index, example);
		}
		return example;
	};

	return async (index) => {
		if (broken.has(index)) return undefined;
		const known = kept.get(index) ?? loading.get(index);
		if (known !== undefined) return known;
		const promise = load(index).finally(() => loading.delete(index));
		loading.set(index, promise);
		return promise;
	};
}
