/** @file Image files as tensors. */
import { readFile } from 'node:fs/promises';
import type { Tensor } from '../core/tensor.ts';
import { fileError } from '../io/file-error.ts';
import { decodeImage, type ImageSize } from '../train/data/decode-image.ts';

/**
 * The image [1, channels, height, width] with values in [-1, 1]: scaled to cover the size, cropped in the centre.
 * @throws DiffusionPipeError of kind 'input' when the file is missing or no image
 */
export async function readImage(path: string, size: ImageSize): Promise<Tensor<'float32'>> {
	try {
		const data = await decodeImage(await readFile(path), size);
		return { dtype: 'float32', shape: [1, size.channels, size.height, size.width], data };
	} catch (error) {
		throw fileError(path, 'read the image', error);
	}
}
