import sharp from 'sharp';
import { describe, expect, test } from 'vitest';
import { decodeImage } from '../../../src/train/data/decode-image.ts';
import { fromPixels, plain } from './images.ts';

const bytes = (image: Float32Array): number[] => Array.from(image, (value) => Math.round((value + 1) * 127.5));

test('pixels become planes in [-1, 1]', async () => {
	const file = await fromPixels([255, 0, 10, 20, 30, 40], 2, 1, 3).png().toBuffer();
	const image = await decodeImage(file, { channels: 3, height: 1, width: 2 });
	expect([...image]).toEqual([255, 20, 0, 30, 10, 40].map((value) => Math.fround(value / 127.5 - 1)));
	expect(image[0]).toBe(1);
	expect(image[2]).toBe(-1);
});

test('images cover the size and are cropped in the centre', async () => {
	// Columns red, green, green, blue: the middle square of a wide image is green.
	const r = [255, 0, 0];
	const g = [0, 255, 0];
	const b = [0, 0, 255];
	const file = await fromPixels([...r, ...g, ...g, ...b, ...r, ...g, ...g, ...b], 4, 2, 3)
		.png()
		.toBuffer();
	const image = await decodeImage(file, { channels: 3, height: 2, width: 2 });
	expect(bytes(image)).toEqual([0, 0, 0, 0, 255, 255, 255, 255, 0, 0, 0, 0]);
});

test('transparency is flattened on white', async () => {
	const file = await fromPixels([0, 0, 0, 0, 200, 100, 50, 255], 2, 1, 4).png().toBuffer();
	expect(bytes(await decodeImage(file, { channels: 3, height: 1, width: 2 }))).toEqual([255, 200, 255, 100, 255, 50]);
});

test('grey and colour become each other', async () => {
	const grey = await fromPixels([7, 200], 2, 1, 1).toColourspace('b-w').png().toBuffer();
	expect((await sharp(grey).metadata()).channels).toBe(1);
	expect(bytes(await decodeImage(grey, { channels: 3, height: 1, width: 2 }))).toEqual([7, 200, 7, 200, 7, 200]);
	expect(bytes(await decodeImage(grey, { channels: 1, height: 1, width: 2 }))).toEqual([7, 200]);
	const colour = await decodeImage(await plain(0, 255, 0).png().toBuffer(), { channels: 1, height: 2, width: 2 });
	expect(colour).toHaveLength(4);
	for (const value of bytes(colour)) expect(value).toBeGreaterThan(100);
});

test('EXIF orientation is followed', async () => {
	// Orientation 6: the camera was turned, the stored left column is the top row.
	const file = await fromPixels([255, 0], 2, 1, 1).toColourspace('b-w').withMetadata({ orientation: 6 }).png().toBuffer();
	expect(bytes(await decodeImage(file, { channels: 1, height: 2, width: 1 }))).toEqual([255, 0]);
});

test('an image of one pixel is enlarged', async () => {
	const file = await plain(10, 20, 30, 1, 1).png().toBuffer();
	const image = await decodeImage(file, { channels: 3, height: 3, width: 2 });
	expect(bytes(image)).toEqual([...Array(6).fill(10), ...Array(6).fill(20), ...Array(6).fill(30)]);
});

test.each(['png', 'jpeg', 'webp', 'gif', 'tiff', 'avif'] as const)('%s is read', async (format) => {
	const file = await plain(200, 100, 50).toFormat(format).toBuffer();
	const image = await decodeImage(file, { channels: 3, height: 4, width: 4 });
	expect(image).toHaveLength(48);
	for (const [channel, wanted] of [200, 100, 50].entries()) {
		for (const value of bytes(image.subarray(channel * 16, channel * 16 + 16))) expect(Math.abs(value - wanted)).toBeLessThanOrEqual(6);
	}
});

test('16 bits a channel are brought to 8', async () => {
	const file = await plain(200, 100, 50).toColourspace('rgb16').png().toBuffer();
	const image = await decodeImage(file, { channels: 3, height: 1, width: 1 });
	for (const [i, wanted] of [200, 100, 50].entries()) expect(Math.abs(bytes(image)[i]! - wanted)).toBeLessThanOrEqual(1);
});

describe('damaged files are refused', () => {
	const noise = sharp({
		create: { width: 64, height: 64, channels: 3, background: '#000', noise: { type: 'gaussian', mean: 128, sigma: 40 } },
	});
	test.each(['jpeg', 'png', 'webp'] as const)('truncated %s', async (format) => {
		const file = await noise.clone().toFormat(format).toBuffer();
		await expect(decodeImage(file.subarray(0, file.length >> 1), { channels: 3, height: 8, width: 8 })).rejects.toThrow();
	});
	test.each([
		['nothing', ''],
		['text', 'not an image'],
	])('%s', async (_, text) => {
		await expect(decodeImage(Buffer.from(text), { channels: 3, height: 8, width: 8 })).rejects.toThrow();
	});
});
