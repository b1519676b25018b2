/** @file The size of the images to make, checked before any work. */
import { DiffusionPipeError } from '../core/errors.ts';

/** Pixels. */
export interface PixelSize {
	readonly height: number;
	readonly width: number;
}

/**
 * Height and width as asked for, else `sampleSize` (of the denoiser's config: a number, or rows and columns) times `factor` pixels.
 * @param multiple what both must be multiples of
 * @throws DiffusionPipeError of kind 'usage' when there is no size or it does not divide, with the nearest that does
 */
export function imageSize(
	asked: { readonly height?: number | undefined; readonly width?: number | undefined },
	sampleSize: unknown,
	factor: number,
	multiple: number,
): PixelSize {
	const [rows, columns]: readonly unknown[] = Array.isArray(sampleSize) ? sampleSize : [sampleSize, sampleSize];
	const pick = (name: 'height' | 'width', configured: unknown): number => {
		const own = typeof configured === 'number' ? configured * factor : undefined;
		const value = asked[name] ?? own;
		if (value !== undefined && Number.isSafeInteger(value) && value >= multiple && value % multiple === 0) return value;
		const near = value === undefined ? undefined : Math.max(multiple, Math.round(value / multiple) * multiple);
		throw new DiffusionPipeError('usage', value === undefined ? 'the size is not given' : 'the size does not do', {
			place: name,
			expected: `a multiple of ${multiple} pixels${own === undefined ? ', since the model has no size of its own' : ''}`,
			found: value === undefined ? 'nothing' : String(value),
			...(near === undefined || !Number.isFinite(near) ? {} : { hint: `--${name} ${near}` }),
		});
	};
	return { height: pick('height', rows), width: pick('width', columns) };
}
