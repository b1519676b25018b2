import fc from 'fast-check';
import sharp from 'sharp';
import { expect, test } from 'vitest';
import { imageGrid } from '../../src/io/grid.ts';
import { encodePng, type PngChannels } from '../../src/io/png.ts';

test('sharp decodes the same pixels', async () => {
	const anyImage = fc
		.record({
			width: fc.integer({ min: 1, max: 12 }),
			height: fc.integer({ min: 1, max: 12 }),
			channels: fc.constantFrom<PngChannels>(1, 3, 4),
			smooth: fc.boolean(),
			seed: fc.integer(),
		})
		.map(({ width, height, channels, smooth, seed }) => {
			const pixels = Uint8Array.from({ length: width * height * channels }, (_, i) =>
				smooth ? i * 3 : Math.imul(i + seed, 2654435761) >>> 24,
			);
			return { pixels, width, height, channels };
		});
	await fc.assert(
		fc.asyncProperty(anyImage, async ({ pixels, width, height, channels }) => {
			const png = encodePng(pixels, width, height, channels);
			let image = sharp(png);
			if (channels === 1) image = image.toColourspace('b-w');
			const { data, info } = await image.raw().toBuffer({ resolveWithObject: true });
			expect([info.width, info.height, info.channels]).toEqual([width, height, channels]);
			expect(new Uint8Array(data)).toEqual(pixels);
		}),
		{ numRuns: 60 },
	);
});

test('sizes that do not fit are refused', () => {
	expect(() => encodePng(new Uint8Array(5), 2, 2, 1)).toThrow(/5 bytes for 2 x 2 x 1/);
	expect(() => encodePng(new Uint8Array(0), 0, 2, 1)).toThrow(/do not fit/);
	expect(() => encodePng(new Uint8Array(8), 2, 2, 2 as PngChannels)).toThrow(/do not fit/);
});

test('a grid places, scales and clips images on white', () => {
	// Three grey images of 1 x 2 pixels: two in the first row, one in the second.
	const images = Float32Array.of(-1, 0, 1, 5, Number.NaN, -7);
	const { pixels, width, height, channels } = imageGrid(images, [3, 1, 1, 2], { columns: 2, padding: 1, scale: 2 });
	expect([width, height, channels]).toEqual([11, 7, 1]);
	const w = 255;
	const rows = Array.from({ length: height }, (_, y) => [...pixels.subarray(y * width, (y + 1) * width)]);
	expect(rows).toEqual([
		[w, w, w, w, w, w, w, w, w, w, w],
		[w, 0, 0, 128, 128, w, 255, 255, 255, 255, w],
		[w, 0, 0, 128, 128, w, 255, 255, 255, 255, w],
		[w, w, w, w, w, w, w, w, w, w, w],
		[w, 0, 0, 0, 0, w, w, w, w, w, w],
		[w, 0, 0, 0, 0, w, w, w, w, w, w],
		[w, w, w, w, w, w, w, w, w, w, w],
	]);
});

test('a grid takes channel planes apart and chooses its columns', () => {
	const images = new Float32Array(5 * 3 * 2 * 2).fill(-1);
	for (let n = 0; n < 5; n++) images.fill(n / 5, n * 12 + 4, n * 12 + 8);
	const grid = imageGrid(images, [5, 3, 2, 2], { padding: 0 });
	expect([grid.width, grid.height]).toEqual([6, 4]);
	const at = (x: number, y: number): number[] => [...grid.pixels.subarray((y * 6 + x) * 3, (y * 6 + x) * 3 + 3)];
	expect(at(2, 1)).toEqual([0, Math.round(1.2 * 127.5), 0]);
	expect(at(1, 2)).toEqual([0, Math.round(1.6 * 127.5), 0]);
	expect(at(5, 3)).toEqual([255, 255, 255]);
});

test('a grid of the wrong size is refused', () => {
	expect(() => imageGrid(new Float32Array(3), [1, 1, 2, 2])).toThrow(/3 values for \[1, 1, 2, 2\]/);
	expect(() => imageGrid(new Float32Array(4), [1, 1, 2, 2], { scale: 0.5 })).toThrow(/scale 0.5/);
	expect(() => imageGrid(new Float32Array(0), [0, 1, 2, 2])).toThrow(/cannot be laid out/);
});
