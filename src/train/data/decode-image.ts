/** @file Decodes image files with sharp to float planes of one size. */
import sharp from 'sharp';
import type { PixelSize } from './types.ts';

/** The size images are brought to. */
export interface ImageSize {
	/** 1 for grey, 3 for RGB (sRGB). */
	readonly channels: 1 | 3;
	readonly height: number;
	readonly width: number;
}

/** Endings of file names that sharp's prebuilt library decodes. */
export const imageEndings = ['.png', '.jpg', '.jpeg', '.webp', '.gif', '.tif', '.tiff', '.avif'] as const;

/** Rows and columns of an image file, turned as its EXIF data says, from its header alone. Throws what sharp throws. */
export async function imageSizeOf(file: string): Promise<PixelSize> {
	const { autoOrient } = await sharp(file).metadata();
	return { height: autoOrient.height, width: autoOrient.width };
}

/**
 * Decodes an image file: turned as its EXIF data says, transparency flattened on white, scaled to cover `size` and cropped in the centre. Of an
 * animation, the first frame. A damaged or truncated file is an error, never a partly grey image.
 * @param file the bytes of the file
 * @returns [channels, height, width], values in [-1, 1]
 * @throws what sharp throws; the caller knows the file's name
 */
export async function decodeImage(file: Uint8Array, size: ImageSize): Promise<Float32Array> {
	const { channels, height, width } = size;
	const pixels = await sharp(file)
		.autoOrient()
		.flatten({ background: '#ffffff' })
		.resize(width, height, { fit: 'cover', position: 'centre' })
		.toColourspace(channels === 1 ? 'b-w' : 'srgb')
		.raw({ depth: 'uchar' })
		.toBuffer();
	const plane = height * width;
	const image = new Float32Array(channels * plane);
	for (let c = 0; c < channels; c++) {
		for (let i = 0; i < plane; i++) image[c * plane + i] = pixels[i * channels + c]! / 127.5 - 1;
	}
	return image;
}
