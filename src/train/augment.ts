/** @file Pictures shifted, scaled, turned and tinted at random, so that an encoder learns from a few what does not depend on such things. */
import type { RandomStream } from '../core/random.ts';
import type { Shape } from '../core/tensor.ts';

/** How far pictures are changed; every amount is drawn uniformly between both signs of its limit. */
export interface Augmentation {
	/** Shift along each axis, as a share of the side. */
	readonly shift: number;
	/** Factor along each axis: exp of what is drawn. */
	readonly zoom: number;
	/** Angle, in radians. */
	readonly turn: number;
	/** Factor of each channel's distance from white: exp of what is drawn. */
	readonly tint: number;
}

const draws = 8;

/**
 * Changes `count` pictures of `shape` [channels, height, width] with values in [-1, 1] in place. Picture i of step s is changed by elements 8 i to 8 i + 7
 * of `stream` at s. Pixels are interpolated linearly; what comes from outside is the nearest pixel of the edge.
 */
export function augmentPictures(
	pictures: Float32Array,
	shape: Shape,
	{ shift, zoom, turn, tint }: Augmentation,
	stream: RandomStream,
	step: number,
): void {
	const [channels, height, width] = shape as [number, number, number];
	const plane = height * width;
	const count = pictures.length / (channels * plane);
	const source = new Float32Array(plane);
	const uniforms = stream.uniforms(new Float32Array(count * draws), step);
	for (let p = 0; p < count; p++) {
		const draw = (i: number) => 2 * uniforms[p * draws + i]! - 1;
		const [dy, dx] = [draw(0) * shift * height, draw(1) * shift * width];
		const [zoomY, zoomX] = [Math.exp(-draw(2) * zoom), Math.exp(-draw(3) * zoom)];
		const [sin, cos] = [Math.sin(draw(4) * turn), Math.cos(draw(4) * turn)];
		const [middleY, middleX] = [(height - 1) / 2, (width - 1) / 2];
		for (let c = 0; c < channels; c++) {
			const target = pictures.subarray((p * channels + c) * plane, (p * channels + c + 1) * plane);
			source.set(target);
			const gain = Math.exp(draw(5 + (c % 3)) * tint);
			for (let y = 0; y < height; y++) {
				for (let x = 0; x < width; x++) {
					const [v, u] = [(y - middleY - dy) * zoomY, (x - middleX - dx) * zoomX];
					const value = sampleAt(source, height, width, middleY + cos * v + sin * u, middleX + cos * u - sin * v);
					target[y * width + x] = Math.max(-1, 1 - (1 - value) * gain);
				}
			}
		}
	}
}

/** Linear interpolation between the four pixels around (y, x). */
function sampleAt(plane: Float32Array, height: number, width: number, y: number, x: number): number {
	const [cy, cx] = [Math.min(Math.max(y, 0), height - 1), Math.min(Math.max(x, 0), width - 1)];
	const [y0, x0] = [Math.floor(cy), Math.floor(cx)];
	const [y1, x1] = [Math.min(y0 + 1, height - 1), Math.min(x0 + 1, width - 1)];
	const [fy, fx] = [cy - y0, cx - x0];
	const top = plane[y0 * width + x0]! * (1 - fx) + plane[y0 * width + x1]! * fx;
	const bottom = plane[y1 * width + x0]! * (1 - fx) + plane[y1 * width + x1]! * fx;
	return top * (1 - fy) + bottom * fy;
}
