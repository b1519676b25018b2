/** @file The size of the samples a model is built for: from its config, or another asked for. */
import { DiffusionPipeError } from '../core/errors.ts';

/** Rows and columns asked for in place of the config's `sample_size`, in the model's own units (latents for latent models). */
export interface SizeOptions {
	readonly height?: number;
	readonly width?: number;
}

/** `sample_size` as configs write it: one number, [height, width], or nothing. */
export type ConfiguredSize = number | readonly number[] | null;

/** Rows and columns of a sample. Throws a config error when neither the config nor `options` says them. */
export function sampleSize(configured: ConfiguredSize, options: SizeOptions, place: string): { height: number; width: number } {
	const [h, w] = typeof configured === 'number' ? [configured, configured] : (configured ?? []);
	const height = options.height ?? h;
	const width = options.width ?? w;
	const whole = (n: number | undefined): n is number => n !== undefined && Number.isInteger(n) && n > 0;
	if (whole(height) && whole(width)) return { height, width };
	throw new DiffusionPipeError('config', 'the sample size is not given', {
		place,
		expected: 'sample_size as a whole number above 0 or [height, width], or a height and width asked for',
		found: `sample_size = ${JSON.stringify(configured)}, height ${options.height}, width ${options.width}`,
	});
}
