/** @file Edge maps: the conditioning picture of a picture that has none of its own. */

/** Share of each channel in the brightness of a picture (ITU-R BT.601). */
const luma = [0.299, 0.587, 0.114] as const;

/**
 * The edges of a picture: the magnitude of its brightness's gradient by Sobel's 3x3 filters, with the outer pixels repeated beyond the border, scaled so that a
 * step from black to white gives 1, and cut off there.
 * @param image [channels, height, width], values in [-1, 1]; one channel is brightness already
 * @returns [3, height, width], values in [0, 1], the same in every channel
 */
export function edgeMap(image: Float32Array, channels: number, height: number, width: number): Float32Array<ArrayBuffer> {
	const plane = height * width;
	const grey = new Float32Array(plane);
	for (let c = 0; c < channels; c++) {
		const share = (channels === 3 ? luma[c]! : 1 / channels) / 2;
		for (let i = 0; i < plane; i++) grey[i]! += share * image[c * plane + i]!;
	}
	const out = new Float32Array(3 * plane);
	const clamp = (value: number, size: number) => Math.min(size - 1, Math.max(0, value));
	for (let y = 0; y < height; y++) {
		const [above, here, below] = [clamp(y - 1, height) * width, y * width, clamp(y + 1, height) * width];
		for (let x = 0; x < width; x++) {
			const [left, right] = [clamp(x - 1, width), clamp(x + 1, width)];
			const sum = (row: number) => grey[row + left]! + 2 * grey[row + x]! + grey[row + right]!;
			const across = (column: number) => grey[above + column]! + 2 * grey[here + column]! + grey[below + column]!;
			out[here + x] = Math.min(1, Math.hypot(across(right) - across(left), sum(below) - sum(above)) / 4);
		}
	}
	out.copyWithin(plane, 0, plane);
	out.copyWithin(2 * plane, 0, plane);
	return out;
}
