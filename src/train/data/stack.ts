/** @file Examples of a data set side by side: what evaluation runs through a model at once. */
import type { Tensor } from '../../core/tensor.ts';
import type { DataSet } from './types.ts';

/** Some examples of a data set. */
export interface Stack {
	/** [examples, channels, height, width], values in [-1, 1]. */
	readonly images: Tensor<'float32'>;
	readonly captions: readonly string[];
	readonly names: readonly string[];
}

/** Loads examples 0, `every`, 2 `every`, ... of a data set. Rejects when one cannot be loaded. */
export async function stackExamples(dataSet: DataSet, every = 1): Promise<Stack> {
	const { channels, height, width } = dataSet;
	const count = Math.ceil(dataSet.size / every);
	const length = channels * height * width;
	const data = new Float32Array(count * length);
	const captions: string[] = [];
	const names: string[] = [];
	for (let i = 0; i < count; i++) {
		const { image, caption, name } = await dataSet.load(i * every);
		data.set(image, i * length);
		captions.push(caption);
		names.push(name);
	}
	return { images: { dtype: 'float32', shape: [count, channels, height, width], data }, captions, names };
}
