import { expect, test } from 'vitest';
import { randomStream } from '../../src/core/random.ts';
import { type Augmentation, augmentPictures } from '../../src/train/augment.ts';

const none: Augmentation = { shift: 0, zoom: 0, turn: 0, tint: 0 };
const stream = randomStream(4, 'test.augment');
const shape = [3, 9, 9];
/** Two pictures, white with a dark dot at row 2, column 6 of every channel. */
const dots = () => Float32Array.from({ length: 2 * 3 * 81 }, (_, i) => (i % 81 === 2 * 9 + 6 ? -0.5 : 1));

/** Centre of what is dark in plane `p`. */
function centre(pictures: Float32Array, p: number): [number, number] {
	let [weight, row, column] = [0, 0, 0];
	pictures.subarray(81 * p, 81 * (p + 1)).forEach((v, i) => {
		weight += 1 - v;
		row += (1 - v) * Math.floor(i / 9);
		column += (1 - v) * (i % 9);
	});
	return [row / weight, column / weight];
}

test('nothing changes without amounts, and the same address gives the same changes', () => {
	const same = dots();
	augmentPictures(same, shape, none, stream, 0);
	same.forEach((v, i) => {
		expect(v).toBeCloseTo(dots()[i]!, 6);
	});
	const all = { shift: 0.1, zoom: 0.2, turn: 0.3, tint: 0.2 };
	const [a, b, c] = [dots(), dots(), dots()];
	augmentPictures(a, shape, all, stream, 5);
	augmentPictures(b, shape, all, stream, 5);
	augmentPictures(c, shape, all, stream, 6);
	expect(b).toEqual(a);
	expect(c).not.toEqual(a);
	expect(a.subarray(0, 243)).not.toEqual(a.subarray(243));
	for (const v of a) expect(Math.abs(v)).toBeLessThanOrEqual(1);
});

test('shifts, zooms and turns by what is drawn, all channels of a picture alike', () => {
	const drawn = stream.uniforms(new Float32Array(16), 1).map((u) => 2 * u - 1);
	const moved = (amounts: Partial<Augmentation>) => {
		const pictures = dots();
		augmentPictures(pictures, shape, { ...none, ...amounts }, stream, 1);
		expect(centre(pictures, 1)).toEqual(centre(pictures, 0));
		return [centre(pictures, 0), centre(pictures, 3)];
	};
	moved({ shift: 0.1 }).forEach(([row, column], p) => {
		expect(row).toBeCloseTo(2 + 0.9 * drawn[8 * p]!, 4);
		expect(column).toBeCloseTo(6 + 0.9 * drawn[8 * p + 1]!, 4);
	});
	// The dot is 2 up and 2 right of the middle; a dot one pixel large is off by its own sampling.
	moved({ zoom: 0.3 }).forEach(([row, column], p) => {
		expect(Math.abs(row - (4 - 2 * Math.exp(0.3 * drawn[8 * p + 2]!)))).toBeLessThan(0.3);
		expect(Math.abs(column - (4 + 2 * Math.exp(0.3 * drawn[8 * p + 3]!)))).toBeLessThan(0.3);
	});
	moved({ turn: 0.4 }).forEach(([row, column], p) => {
		const angle = 0.4 * drawn[8 * p + 4]!;
		expect(Math.abs(row - (4 - 2 * Math.cos(angle) - 2 * Math.sin(angle)))).toBeLessThan(0.3);
		expect(Math.abs(column - (4 + 2 * Math.cos(angle) - 2 * Math.sin(angle)))).toBeLessThan(0.3);
	});
});

test('tints keep white and change each channel by its own factor', () => {
	const pictures = dots();
	augmentPictures(pictures, shape, { ...none, tint: 0.2 }, stream, 1);
	const drawn = stream.uniforms(new Float32Array(8), 1).map((u) => 2 * u - 1);
	for (const c of [0, 1, 2]) {
		expect(pictures[81 * c]).toBe(1);
		expect(pictures[81 * c + 24]).toBeCloseTo(1 - 1.5 * Math.exp(0.2 * drawn[5 + c]!), 4);
	}
});
