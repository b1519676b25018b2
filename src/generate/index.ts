/** @file Sampling to a file: what `diffusionpipe sample` does. */

import { mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { DiffusionPipeError, nearestName } from '../core/errors.ts';
import { writeWhole } from '../io/atomic.ts';
import { readParameter } from '../train/checkpoint.ts';
import { createGenerator } from './denoise.ts';
import { openPipeline } from './folder.ts';
import { pictureOf } from './pictures.ts';

export { createGenerator, type DenoiseOptions, type Generator } from './denoise.ts';
export { type OpenPipeline, openPipeline, resolvePipeline } from './folder.ts';
export { trainingSamples } from './training-samples.ts';

export interface SampleOptions {
	/** A run, a checkpoint or a pipeline folder. */
	readonly folder: string;
	/** Labels or class names; by default every class, up to 10. */
	readonly labels?: readonly (number | string)[];
	/** Denoising steps. Default 50. */
	readonly steps?: number;
	/** Default 2.5. */
	readonly guidanceScale?: number;
	readonly seed?: number;
	/** Images of each label. Default 4. */
	readonly perLabel?: number;
	/** Default: one column per label. */
	readonly columns?: number;
	/** Default: `samples.png` in the folder sampled from. */
	readonly output?: string;
	/** Devices to share the images. Default 1. */
	readonly devices?: number;
	/** Class of another scheduler to use with the options it shares. */
	readonly scheduler?: string;
	readonly signal?: AbortSignal;
	readonly onEvent?: (event: SampleEvent) => void;
}

export type SampleEvent =
	| { readonly kind: 'step'; readonly step: number; readonly steps: number }
	| { readonly kind: 'note'; readonly text: string };

/** Draws a grid of images and writes it as PNG. Throws input errors before any work. */
export async function sampleToFile(options: SampleOptions): Promise<{ output: string; images: number; seconds: number }> {
	const { steps = 50, guidanceScale = 2.5, seed = 0, perLabel = 4, devices = 1, signal } = options;
	const say = options.onEvent ?? (() => {});
	const pipeline = await openPipeline(options.folder);
	try {
		const { denoiser, classes } = pipeline;
		const columns = labelsOf(options.labels, classes, denoiser.labels?.none);
		const labels = Array.from({ length: perLabel }, () => columns).flat();
		say({ kind: 'note', text: `sampling ${labels.length} images from ${pipeline.folder}` });
		const began = performance.now();
		const generator = await createGenerator(denoiser, { devices, rows: labels.length });
		try {
			await generator.setWeights((name, shape) => readParameter(pipeline.weights, name, shape, pipeline.folder));
			const images = await generator.sample({
				labels,
				scheduler: options.scheduler === undefined ? pipeline.scheduler : { ...pipeline.scheduler, _class_name: options.scheduler },
				steps,
				guidanceScale,
				seed,
				...(signal ? { signal } : {}),
				onStep: (step, of) => say({ kind: 'step', step, steps: of }),
			});
			const [channels, height, width] = denoiser.chain.inputs[denoiser.sample]!.shape as [number, number, number];
			const picture = pictureOf(images, [labels.length, channels, height, width], options.columns ?? columns.length);
			const output = options.output ?? join(pipeline.folder, 'samples.png');
			await mkdir(dirname(output), { recursive: true });
			await writeWhole(output, picture.png);
			return { output, images: labels.length, seconds: (performance.now() - began) / 1000 };
		} finally {
			await generator.close();
		}
	} finally {
		await pipeline.weights.close();
	}
}

/** Labels as numbers, checked against the model's classes. */
function labelsOf(
	wanted: readonly (number | string)[] | undefined,
	classes: readonly string[] | undefined,
	none: number | undefined,
): number[] {
	const count = Math.min(classes?.length ?? none ?? 1, none ?? Number.POSITIVE_INFINITY);
	if (!wanted || wanted.length === 0) return Array.from({ length: Math.min(count, 10) }, (_, i) => i);
	return wanted.map((label) => {
		const index = typeof label === 'number' ? label : classes?.indexOf(label) !== -1 && classes ? classes.indexOf(label) : Number(label);
		if (Number.isInteger(index) && index >= 0 && index < count) return index;
		const near = typeof label === 'string' ? nearestName(label, classes ?? []) : undefined;
		throw new DiffusionPipeError('usage', 'no such class', {
			place: '--labels',
			expected: classes ? `a number below ${count} or one of ${classes.slice(0, 20).join(', ')}` : `a number below ${count}`,
			found: String(label),
			...(near === undefined ? {} : { hint: `did you mean ${near}?` }),
		});
	});
}
