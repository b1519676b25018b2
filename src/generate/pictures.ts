/** @file Samples as a PNG grid. */
import { imageGrid } from '../io/grid.ts';
import { encodePng } from '../io/png.ts';

/** A PNG with its size. */
export interface PngPicture {
	readonly png: Uint8Array;
	readonly width: number;
	readonly height: number;
	readonly channels: 1 | 3 | 4;
}

/** Lays `images` [count, channels, height, width] out in rows of `columns`, one alone without a border; small images are enlarged so that they can be seen. */
export function pictureOf(images: Float32Array, shape: readonly [number, number, number, number], columns: number): PngPicture {
	const scale = Math.max(1, Math.min(8, Math.floor(56 / shape[3])));
	const { pixels, width, height, channels } = imageGrid(images, shape, { columns, scale, padding: shape[0] === 1 ? 0 : 2 });
	return { png: encodePng(pixels, width, height, channels), width, height, channels };
}
