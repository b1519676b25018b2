/** @file The grid of patches that a transformer sees a latent as. */
import { DiffusionPipeError } from '../core/errors.ts';
import { type ConfiguredSize, type SizeOptions, sampleSize } from './sample-size.ts';

/** A latent's rows and columns, and those of its patches. */
export interface LatentGrid {
	readonly height: number;
	readonly width: number;
	readonly rows: number;
	readonly columns: number;
}

/** The grid of patches of side `patch`. Throws a config error when the latent does not divide into them. */
export function latentGrid(configured: ConfiguredSize, patch: number, options: SizeOptions, place: string): LatentGrid {
	const { height, width } = sampleSize(configured, options, place);
	if (height % patch !== 0 || width % patch !== 0) {
		throw new DiffusionPipeError('config', 'the latent does not divide into patches', {
			place,
			expected: `rows and columns that are multiples of patch_size ${patch}`,
			found: `${height} x ${width}`,
		});
	}
	return { height, width, rows: height / patch, columns: width / patch };
}
