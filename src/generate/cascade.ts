/** @file Drawing with a cascade: from the folder of one, and from the weights of one in training. */

import { DiffusionPipeError } from '../core/errors.ts';
import type { SchedulerConfig } from '../diffusion/samplers/index.ts';
import { lowResolution } from '../models/concatenated.ts';
import type { Denoiser } from '../models/index.ts';
import { backboneNames } from '../train/cascade/config.ts';
import type { CascadeDrawer } from '../train/cascade/events.ts';
import { deviceCount } from '../train/plan.ts';
import { upsampled } from '../train/resize.ts';
import { type CascadeImages, cascadeFolders, openCascadePipeline } from './cascade-pipeline.ts';
import { runOptions } from './create.ts';
import { createGenerator, type DenoiseOptions } from './denoise.ts';
import { pictureOf } from './pictures.ts';
import type { Generated, GenerateOptions } from './pipeline.ts';

/** One of the two models with its weights. */
export interface CascadeSide {
	readonly denoiser: Denoiser;
	readonly scheduler: SchedulerConfig;
	readonly read: (name: string, shape: readonly number[]) => Float32Array | Promise<Float32Array>;
	/** Rows of what the model is told of texts, one per image, and of the empty text. */
	readonly texts?: DenoiseOptions['conditioning'];
}

/** What to draw. */
export interface CascadeDrawing {
	/** One image each. Ignored by models without labels but for their number. */
	readonly labels: readonly number[];
	/** Denoising steps of each model. Default 50. */
	readonly steps?: number;
	/** Classifier-free guidance of models of labels or texts; the one that enlarges is told the small image in either pass. Default 1: none. */
	readonly guidanceScale?: number;
	/** Image i's noise is a function of (seed, i) alone. Default 0. */
	readonly seed?: number;
	/** Devices that share the images. Default 1. */
	readonly devices?: number;
	/** Threads inside one operator. Default 1. */
	readonly threads?: number;
}

/** Draws with both models, one after the other. */
export async function drawCascade(base: CascadeSide, superResolution: CascadeSide, drawing: CascadeDrawing): Promise<CascadeImages> {
	const { seed = 0 } = drawing;
	const small = await drawSide(base, drawing, seed, base.texts);
	const [, , rows, columns] = small.shape;
	const shape = superResolution.denoiser.chain.inputs[superResolution.denoiser.sample]!.shape as readonly [number, number, number];
	const told = { [lowResolution]: upsampled(small.images, rows, columns, shape[1] / rows) };
	const { texts } = superResolution;
	const large = await drawSide(superResolution, drawing, seed + 1, {
		wanted: { ...texts?.wanted, ...told },
		none: { ...texts?.none, ...told },
	});
	return { small, large };
}

async function drawSide(
	{ denoiser, scheduler, read, texts }: CascadeSide,
	{ labels, steps = 50, guidanceScale = 1, devices = 1, threads = 1 }: CascadeDrawing,
	seed: number,
	conditioning: DenoiseOptions['conditioning'] | undefined,
): Promise<Generated> {
	const isGuided = (denoiser.labels !== undefined || texts !== undefined) && guidanceScale !== 1;
	const generator = await createGenerator(denoiser, { devices, rows: isGuided ? 2 * labels.length : labels.length, threads });
	try {
		await generator.setWeights(read);
		const told = conditioning ? { conditioning } : {};
		const images = await generator.sample({ labels, scheduler, steps, guidanceScale: isGuided ? guidanceScale : 1, seed, ...told });
		const [channels, height, width] = denoiser.chain.inputs[denoiser.sample]!.shape as readonly [number, number, number];
		return { images: images.map((value) => Math.min(1, Math.max(-1, value))), shape: [labels.length, channels, height, width] };
	} finally {
		await generator.close();
	}
}

/** The drawer that `trainCascade` takes as `samples`: one column per label or caption, `sample.per_label` rows of large images. */
export const cascadeSamples: CascadeDrawer = async ({ parts, texts }, weights, { base }, text) => {
	const { labels: wanted, prompts, per_label: perLabel, steps, guidance_scale: guidanceScale, seed } = base.sample;
	const known = Array.from({ length: Math.min(parts.base.denoiser.labels?.none ?? 8, 10) }, (_, i) => i);
	const columns = text ? prompts.map((_, i) => i) : wanted.length > 0 ? wanted : known;
	const places = Array.from({ length: perLabel }, () => columns).flat();
	const captions = text ? places.map((i) => prompts[i]!) : [];
	const told = text && { wanted: await text.encode(captions), none: await text.encode(captions.map(() => '')) };
	const [small, large] = backboneNames.map((name) => {
		const own = told && texts[name].length > 0 ? { texts: told } : {};
		return { ...parts[name], read: weights[name], ...own };
	});
	// A model of labels beside one of texts is told that there is none.
	const labels = text ? places.map(() => parts.super_resolution.denoiser.labels?.none ?? 0) : places;
	const { threads_per_device: threads } = base.parallel;
	const drawing = { labels, steps, guidanceScale, seed, devices: deviceCount(base), threads };
	const drawn = await drawCascade(small!, large!, drawing);
	return pictureOf(drawn.large.images, drawn.large.shape, columns.length);
};

/** What to draw from a folder, and how it is run. */
export interface SampleCascadeOptions extends GenerateOptions {
	/** Devices that share the images. Default 1. */
	readonly devices?: number;
	/** Threads inside one operator. Default: the machine's cores shared by the devices. */
	readonly threads?: number;
}

/**
 * Draws small and large images with the finished pipeline of a run of `trainCascade`, with its newest checkpoints where it is not finished, or with a pipeline
 * folder. Throws an input error when there is no cascade, and what `Pipeline.generate` throws.
 */
export async function sampleCascade(folder: string, { devices, threads, ...given }: SampleCascadeOptions): Promise<CascadeImages> {
	const folders = await cascadeFolders(folder);
	if (!folders) {
		throw new DiffusionPipeError('input', 'holds no cascade', {
			place: folder,
			expected: 'a run of a cascade, or its pipeline folder with super_resolution in it',
		});
	}
	const pipeline = await openCascadePipeline(folders, runOptions({ devices, threads }));
	try {
		return await pipeline.draw(given);
	} finally {
		await pipeline.close();
	}
}
