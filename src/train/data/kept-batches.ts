/** @file Batches of filled runs, which are asked for twice: a step ahead for the frozen parts, and in their turn. */
import type { Loader } from './loader.ts';

/** The loader's `batchAt`, which loads each batch once for both askers. A failed load is thrown to who asks for it. */
export function keptBatches(loader: Loader): Loader['batchAt'] {
	const loaded = new Map<number, ReturnType<Loader['batchAt']>>();
	return (step) => {
		let batch = loaded.get(step);
		if (!batch) {
			batch = loader.batchAt(step);
			batch.catch(() => {});
			loaded.set(step, batch);
			loaded.delete(step - 2);
		}
		return batch;
	};
}
