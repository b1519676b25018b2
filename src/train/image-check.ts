/** @file The check that the images of a data set are what a model takes. */
import { DiffusionPipeError } from '../core/errors.ts';
import type { Shape } from '../core/tensor.ts';
import type { DataSetInfo } from './data/types.ts';

/** Throws a config error when the images of the data set are not of `shape` [channels, height, width]. */
export function checkImages({ name, channels, height, width }: DataSetInfo, shape: Shape): void {
	if ([channels, height, width].join() === shape.join()) return;
	throw new DiffusionPipeError('config', 'the images do not fit the model', {
		place: `data set ${name}`,
		expected: `[${shape.join(', ')}]`,
		found: `[${[channels, height, width].join(', ')}]`,
	});
}
