/** @file Images of a cascade at its two resolutions: means of squares down, bilinear up. Images are flat, plane after plane. */

/** Planes of `rows` x `columns` shrunk by a whole `factor`: each pixel the mean of the square it covers. */
export function downsampled(planes: Float32Array, rows: number, columns: number, factor: number): Float32Array<ArrayBuffer> {
	const [height, width] = [rows / factor, columns / factor];
	const count = planes.length / (rows * columns);
	const out = new Float32Array(count * height * width);
	for (let p = 0; p < count; p++) {
		for (let y = 0; y < height; y++) {
			for (let x = 0; x < width; x++) {
				let sum = 0;
				for (let dy = 0; dy < factor; dy++) {
					const row = p * rows * columns + (y * factor + dy) * columns + x * factor;
					for (let dx = 0; dx < factor; dx++) sum += planes[row + dx]!;
				}
				out[(p * height + y) * width + x] = sum / factor ** 2;
			}
		}
	}
	return out;
}

/** Planes of `rows` x `columns` enlarged by a whole `factor`, bilinear between the centres of pixels; beyond the outer ones their values. */
export function upsampled(planes: Float32Array, rows: number, columns: number, factor: number): Float32Array<ArrayBuffer> {
	const [height, width] = [rows * factor, columns * factor];
	const count = planes.length / (rows * columns);
	const out = new Float32Array(count * height * width);
	const [down, across] = [between(rows, factor), between(columns, factor)];
	for (let p = 0; p < count; p++) {
		const at = (y: number, x: number) => planes[(p * rows + y) * columns + x]!;
		for (let y = 0; y < height; y++) {
			const { low: top, high: bottom, share: v } = down[y]!;
			for (let x = 0; x < width; x++) {
				const { low: left, high: right, share: h } = across[x]!;
				const upper = (1 - h) * at(top, left) + h * at(top, right);
				const lower = (1 - h) * at(bottom, left) + h * at(bottom, right);
				out[(p * height + y) * width + x] = (1 - v) * upper + v * lower;
			}
		}
	}
	return out;
}

/** Of each of `size * factor` pixels, the two of `size` that it lies between, and how near it is to the second. */
function between(size: number, factor: number): { low: number; high: number; share: number }[] {
	return Array.from({ length: size * factor }, (_, i) => {
		const place = Math.min(size - 1, Math.max(0, (i + 0.5) / factor - 0.5));
		const low = Math.floor(place);
		return { low, high: Math.min(size - 1, low + 1), share: place - low };
	});
}
