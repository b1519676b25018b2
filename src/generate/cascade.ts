/** @file Drawing with a cascade: the base draws small images, the other model draws them large, told each small image. */
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { DiffusionPipeError } from '../core/errors.ts';
import type { SchedulerConfig } from '../diffusion/samplers/index.ts';
import { createDenoiser, type Denoiser } from '../models/index.ts';
import type { CascadeDrawer } from '../train/cascade/events.ts';
import { lowResolution } from '../train/cascade/models.ts';
import { readParameter } from '../train/checkpoint.ts';
import { deviceCount } from '../train/plan.ts';
import { upsampled } from '../train/resize.ts';
import { createGenerator } from './denoise.ts';
import { classNames, readPipelineFolder } from './folder.ts';
import { denoiserName, openPart } from './parts.ts';
import { pictureOf } from './pictures.ts';
import type { Generated } from './pipeline.ts';

/** One of the two models with its weights. */
export interface CascadeSide {
	readonly denoiser: Denoiser;
	readonly scheduler: SchedulerConfig;
	readonly read: (name: string, shape: readonly number[]) => Float32Array | Promise<Float32Array>;
}

/** What to draw. */
export interface CascadeDrawing {
	/** One image each. Ignored by models without labels but for their number. */
	readonly labels: readonly number[];
	/** Denoising steps of each model. Default 50; drawn from a folder, what its run drew with. */
	readonly steps?: number;
	/** Classifier-free guidance of models of labels; the one that enlarges is told the small image in either pass. Default 1: none; drawn from a folder, what its run drew with. */
	readonly guidanceScale?: number;
	/** Image i's noise is a function of (seed, i) alone. Default 0. */
	readonly seed?: number;
	/** Devices that share the images. Default 1. */
	readonly devices?: number;
	/** Threads inside one operator. Default 1. */
	readonly threads?: number;
}

/** Small and large images. */
export interface CascadeImages {
	readonly small: Generated;
	readonly large: Generated;
}

/** Draws with both models, one after the other. */
export async function drawCascade(base: CascadeSide, superResolution: CascadeSide, drawing: CascadeDrawing): Promise<CascadeImages> {
	const { seed = 0 } = drawing;
	const small = await drawSide(base, drawing, seed);
	const [, , rows, columns] = small.shape;
	const shape = superResolution.denoiser.chain.inputs[superResolution.denoiser.sample]!.shape as readonly [number, number, number];
	const told = { [lowResolution]: upsampled(small.images, rows, columns, shape[1] / rows) };
	const large = await drawSide(superResolution, drawing, seed + 1, told);
	return { small, large };
}

async function drawSide(
	{ denoiser, scheduler, read }: CascadeSide,
	{ labels, steps = 50, guidanceScale = 1, devices = 1, threads = 1 }: CascadeDrawing,
	seed: number,
	told?: Readonly<Record<string, Float32Array>>,
): Promise<Generated> {
	const isGuided = denoiser.labels !== undefined && guidanceScale !== 1;
	const generator = await createGenerator(denoiser, { devices, rows: isGuided ? 2 * labels.length : labels.length, threads });
	try {
		await generator.setWeights(read);
		const conditioning = told ? { conditioning: { wanted: told, none: told } } : {};
		const images = await generator.sample({ labels, scheduler, steps, guidanceScale: isGuided ? guidanceScale : 1, seed, ...conditioning });
		const [channels, height, width] = denoiser.chain.inputs[denoiser.sample]!.shape as readonly [number, number, number];
		return { images: images.map((value) => Math.min(1, Math.max(-1, value))), shape: [labels.length, channels, height, width] };
	} finally {
		await generator.close();
	}
}

/** The drawer that `trainCascade` takes as `samples`: one column per label, `sample.per_label` rows of large images. */
export const cascadeSamples: CascadeDrawer = async ({ parts }, weights, { base }) => {
	const { labels: wanted, per_label: perLabel, steps, guidance_scale: guidanceScale, seed } = base.sample;
	const columns = wanted.length > 0 ? wanted : Array.from({ length: Math.min(parts.base.denoiser.labels?.none ?? 8, 10) }, (_, i) => i);
	const labels = Array.from({ length: perLabel }, () => columns).flat();
	const side = (name: 'base' | 'super_resolution'): CascadeSide => ({ ...parts[name], read: weights[name] });
	const { threads_per_device: threads } = base.parallel;
	const drawing = { labels, steps, guidanceScale, seed, devices: deviceCount(base), threads };
	const { large } = await drawCascade(side('base'), side('super_resolution'), drawing);
	return pictureOf(large.images, large.shape, columns.length);
};

/**
 * Draws with the finished pipeline of a run of `trainCascade`, or with the run's folder. Throws an input error when there is no cascade, a usage error when a
 * label is not one of its classes.
 */
export async function sampleCascade(folder: string, drawing: CascadeDrawing): Promise<CascadeImages> {
	const own = await readPipelineFolder(folder);
	const larger = await readPipelineFolder(join(own.folder, 'super_resolution'));
	const opened = [];
	try {
		for (const place of [own, larger]) {
			const part = await openPart(place.folder, place.index, denoiserName(place.folder, place.index));
			opened.push({ place, part, denoiser: createDenoiser(part.className, part.config, part.place) });
		}
		const known = opened[0]!.denoiser.labels?.none;
		const count = Math.min(known ?? Number.POSITIVE_INFINITY, classNames(own.index.options.id2label)?.length ?? Number.POSITIVE_INFINITY);
		const wrong = drawing.labels.find((label) => !Number.isSafeInteger(label) || label < 0 || (known !== undefined && label >= count));
		if (wrong !== undefined || drawing.labels.length === 0) {
			throw new DiffusionPipeError('usage', wrong === undefined ? 'there are no labels' : 'no such class', {
				place: 'labels',
				expected: known === undefined ? 'whole numbers, one for each image' : `whole numbers below ${count}`,
				found: String(wrong ?? 'none'),
			});
		}
		const [base, superResolution] = opened.map(
			({ place, part, denoiser }): CascadeSide => ({
				denoiser,
				scheduler: place.scheduler,
				read: (name, shape) => readParameter(part.weights, name, shape, part.folder),
			}),
		);
		const { devices = 1 } = drawing;
		const threads = drawing.threads ?? Math.max(1, Math.floor(availableParallelism() / devices));
		return await drawCascade(base!, superResolution!, { ...own.sampling, ...drawing, threads });
	} finally {
		for (const { part } of opened) await part.weights.close();
	}
}
