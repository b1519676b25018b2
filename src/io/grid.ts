/** @file Lays a batch of images out as one picture. */
import { DiffusionPipeError } from '../core/errors.ts';
import type { PngChannels } from './png.ts';

/** 8-bit pixels [height, width, channels], as `encodePng` takes them. */
export interface Picture {
	readonly pixels: Uint8Array;
	readonly width: number;
	readonly height: number;
	readonly channels: PngChannels;
}

/** How to lay out a grid. */
export interface GridOptions {
	/** Images in a row. Default: the least number that makes the grid no higher than wide (in images). */
	readonly columns?: number;
	/** White pixels round and between the images. Default 2. */
	readonly padding?: number;
	/** Pixels of the picture for one of an image, repeated without smoothing. Default 1. */
	readonly scale?: number;
}

/**
 * Draws images with values in [-1, 1] (clipped; NaN is drawn black) row by row into one picture on white.
 * @param images [count, channels, height, width] with 1, 3 or 4 channels
 * @throws DiffusionPipeError when the sizes do not fit together
 */
export function imageGrid(
	images: Float32Array,
	shape: readonly [count: number, channels: number, height: number, width: number],
	options: GridOptions = {},
): Picture {
	const [count, channels, height, width] = shape;
	const { columns = Math.ceil(Math.sqrt(count)), padding = 2, scale = 1 } = options;
	const whole = (n: number, least: number): boolean => Number.isInteger(n) && n >= least;
	if (
		!shape.every((n) => whole(n, 1)) ||
		(channels !== 1 && channels !== 3 && channels !== 4) ||
		images.length !== count * channels * height * width ||
		!whole(columns, 1) ||
		!whole(padding, 0) ||
		!whole(scale, 1)
	) {
		throw new DiffusionPipeError('internal', 'the images cannot be laid out', {
			place: 'imageGrid',
			expected: '[count, 1 | 3 | 4, height, width] values; whole columns >= 1, padding >= 0, scale >= 1',
			found: `${images.length} values for [${shape.join(', ')}], columns ${columns}, padding ${padding}, scale ${scale}`,
		});
	}
	const across = Math.min(columns, count);
	const rows = Math.ceil(count / across);
	const cellWidth = width * scale + padding;
	const cellHeight = height * scale + padding;
	const outWidth = across * cellWidth + padding;
	const outHeight = rows * cellHeight + padding;
	const pixels = new Uint8Array(outWidth * outHeight * channels).fill(255);
	for (let n = 0; n < count; n++) {
		const left = padding + (n % across) * cellWidth;
		const top = padding + Math.floor(n / across) * cellHeight;
		for (let c = 0; c < channels; c++) {
			const plane = images.subarray((n * channels + c) * height * width, (n * channels + c + 1) * height * width);
			for (let y = 0; y < height * scale; y++) {
				const source = Math.floor(y / scale) * width;
				let to = ((top + y) * outWidth + left) * channels + c;
				for (let x = 0; x < width * scale; x++) {
					pixels[to] = toByte(plane[source + Math.floor(x / scale)]!);
					to += channels;
				}
			}
		}
	}
	return { pixels, width: outWidth, height: outHeight, channels };
}

/** [-1, 1] to 0..255, rounded and clipped; NaN stays NaN, which a byte array stores as 0. */
function toByte(value: number): number {
	return Math.min(255, Math.max(0, Math.round((value + 1) * 127.5)));
}
