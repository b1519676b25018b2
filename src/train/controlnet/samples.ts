/** @file What pictures are drawn from while a ControlNet is trained: conditioning pictures with captions, of the config or of the data. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DiffusionPipeError } from '../../core/errors.ts';
import { writeWhole } from '../../io/atomic.ts';
import { fileError } from '../../io/file-error.ts';
import { encodePng } from '../../io/png.ts';
import type { TrainConfig } from '../config.ts';
import { decodeImage } from '../data/decode-image.ts';
import type { Loader } from '../data/loader.ts';

/** Conditioning pictures to draw from, and the text that goes with each. */
export interface ControlSamples {
	/** [captions, 3, height, width], values in [0, 1]. */
	readonly pictures: Float32Array;
	readonly captions: readonly string[];
}

/** Pictures of the data that are drawn from where the config names none. */
const fromData = 4;

/** Throws a config error when there are not as many pictures as prompts to draw from. */
export function checkControlSamples({ enabled, conditioning_images: files, prompts }: TrainConfig['sample']): void {
	if (!enabled || files.length === prompts.length) return;
	throw new DiffusionPipeError('config', 'needs one picture for each prompt', {
		place: 'sample.conditioning_images',
		expected: `${prompts.length} files, or neither pictures nor prompts`,
		found: String(files.length),
	});
}

/**
 * `sample.conditioning_images` with `sample.prompts`, or where neither is given the first pictures of the data with their captions. Each is left as
 * `conditioning-<i>.png` in `folder`.
 * @throws DiffusionPipeError of kind 'input' when a picture cannot be read, or the data has none of the size that is drawn
 */
export async function controlSamples({ sample }: TrainConfig, loader: Loader, folder: string): Promise<ControlSamples> {
	const { conditioning_images: files, prompts } = sample;
	const chosen = files.length > 0 ? { pictures: await readAll(files, loader), captions: prompts } : await ofData(loader);
	const { height, width } = loader.info;
	const size = 3 * height * width;
	for (let i = 0; i < chosen.captions.length; i++) {
		const planes = chosen.pictures.subarray(i * size, (i + 1) * size);
		const pixels = Uint8Array.from({ length: size }, (_, k) => Math.round(255 * planes[(k % 3) * height * width + Math.floor(k / 3)]!));
		await writeWhole(join(folder, `conditioning-${i}.png`), encodePng(pixels, width, height, 3));
	}
	return chosen;
}

async function readAll(files: readonly string[], { info: { height, width } }: Loader): Promise<Float32Array> {
	const size = 3 * height * width;
	const pictures = new Float32Array(files.length * size);
	for (const [i, file] of files.entries()) {
		const decode = async () => decodeImage(await readFile(file), { channels: 3, height, width });
		const decoded = await decode().catch((error: unknown) => {
			throw fileError(file, 'read the conditioning picture', error);
		});
		pictures.set(
			decoded.map((v) => (v + 1) / 2),
			i * size,
		);
	}
	return pictures;
}

/** The first pictures that are trained on at the data's first size. */
async function ofData(loader: Loader): Promise<ControlSamples> {
	const { height, width, size } = loader.info;
	for (let step = 0; step <= size; step++) {
		const batch = await loader.batchAt(step);
		if (batch.height !== height || batch.width !== width) continue;
		const count = Math.min(fromData, batch.captions.length);
		return { pictures: batch.conditioning!.slice(0, count * 3 * height * width), captions: batch.captions.slice(0, count) };
	}
	throw new DiffusionPipeError('input', 'holds no picture of the size that samples are drawn at', {
		place: loader.info.name,
		expected: `${width} x ${height}`,
		hint: 'give sample.conditioning_images and sample.prompts, or set sample.enabled = false',
	});
}
