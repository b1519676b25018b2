/** @file Encodes 8-bit images as PNG over node:zlib. */
import { constants, crc32, deflateSync } from 'node:zlib';
import { DiffusionPipeError } from '../core/errors.ts';

const signature = Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a);

/** PNG colour type by number of channels: grey, RGB, RGBA. */
const colourTypes = { 1: 0, 3: 2, 4: 6 } as const;

/** Channels of an image a PNG can hold: grey, RGB, RGBA. */
export type PngChannels = keyof typeof colourTypes;

/**
 * Encodes `pixels` (8 bits, row by row, channels together: [height, width, channels]) as a PNG file.
 * Each row takes the filter with the least sum of absolute differences (PNG specification, 12.8).
 * @throws DiffusionPipeError when the sizes do not fit together
 */
export function encodePng(pixels: Uint8Array | Uint8ClampedArray, width: number, height: number, channels: PngChannels): Uint8Array {
	const positive = (n: number): boolean => Number.isInteger(n) && n > 0 && n < 2 ** 31;
	if (!positive(width) || !positive(height) || !Object.hasOwn(colourTypes, channels) || pixels.length !== width * height * channels) {
		throw new DiffusionPipeError('internal', 'the pixels do not fit the size', {
			place: 'encodePng',
			expected: 'width * height * channels bytes, with 1, 3 or 4 channels',
			found: `${pixels.length} bytes for ${width} x ${height} x ${channels}`,
		});
	}
	const header = new Uint8Array(13);
	const view = new DataView(header.buffer);
	view.setUint32(0, width);
	view.setUint32(4, height);
	header[8] = 8;
	header[9] = colourTypes[channels];
	const data = deflateSync(filterRows(pixels, width * channels, height, channels), { strategy: constants.Z_FILTERED });
	return Buffer.concat([signature, chunk('IHDR', header), chunk('IDAT', data), chunk('IEND', new Uint8Array(0))]);
}

function chunk(type: string, data: Uint8Array): Uint8Array {
	const out = new Uint8Array(12 + data.length);
	const view = new DataView(out.buffer);
	view.setUint32(0, data.length);
	for (let i = 0; i < 4; i++) out[4 + i] = type.charCodeAt(i);
	out.set(data, 8);
	view.setUint32(8 + data.length, crc32(out.subarray(4, 8 + data.length)));
	return out;
}

/** The rows, each filtered and with the number of its filter in front. */
function filterRows(pixels: Uint8Array | Uint8ClampedArray, rowBytes: number, height: number, step: number): Uint8Array {
	const out = new Uint8Array((rowBytes + 1) * height);
	const zero = new Uint8Array(rowBytes);
	const trial = new Uint8Array(rowBytes);
	for (let y = 0; y < height; y++) {
		const row = pixels.subarray(y * rowBytes, (y + 1) * rowBytes);
		const above = y === 0 ? zero : pixels.subarray((y - 1) * rowBytes, y * rowBytes);
		const target = out.subarray(y * (rowBytes + 1), (y + 1) * (rowBytes + 1));
		let least = Number.POSITIVE_INFINITY;
		for (let filter = 0; filter < 5; filter++) {
			const sum = applyFilter(filter, row, above, step, trial);
			if (sum >= least) continue;
			least = sum;
			target[0] = filter;
			target.set(trial, 1);
		}
	}
	return out;
}

/** Writes the filtered row to `out` and returns the sum of its bytes taken as signed magnitudes. */
function applyFilter(
	filter: number,
	row: Uint8Array | Uint8ClampedArray,
	above: Uint8Array | Uint8ClampedArray,
	step: number,
	out: Uint8Array,
): number {
	let sum = 0;
	for (let i = 0; i < row.length; i++) {
		const left = i < step ? 0 : row[i - step]!;
		const up = above[i]!;
		let predicted = 0;
		if (filter === 1) predicted = left;
		else if (filter === 2) predicted = up;
		else if (filter === 3) predicted = (left + up) >> 1;
		else if (filter === 4) predicted = paeth(left, up, i < step ? 0 : above[i - step]!);
		const value = (row[i]! - predicted) & 255;
		out[i] = value;
		sum += value < 128 ? value : 256 - value;
	}
	return sum;
}

function paeth(left: number, up: number, corner: number): number {
	const p = left + up - corner;
	const dLeft = Math.abs(p - left);
	const dUp = Math.abs(p - up);
	const dCorner = Math.abs(p - corner);
	if (dLeft <= dUp && dLeft <= dCorner) return left;
	return dUp <= dCorner ? up : corner;
}
