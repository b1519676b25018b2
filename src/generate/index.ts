/** @file Sampling to a file: what `diffusionpipe sample` does. */

import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { writeWhole } from '../io/atomic.ts';
import type { HubEvent } from '../io/hub.ts';
import type { SampleConfig } from '../io/sample-config.ts';
import { createPipeline } from './create.ts';
import { labelsOf } from './labels.ts';
import { pictureOf } from './pictures.ts';
import type { GenerateEvent, GenerateOptions, Pipeline } from './pipeline.ts';

export { type CascadeDrawing, cascadeSamples, drawCascade, type SampleCascadeOptions, sampleCascade } from './cascade.ts';
export type { CascadeImages, CascadePipeline } from './cascade-pipeline.ts';
export { createPipeline, type PipelineOptions } from './create.ts';
export { createGenerator, type DenoiseOptions, type Generator } from './denoise.ts';
export { type OpenPipeline, openPipeline, resolvePipeline } from './folder.ts';
export type { Generated, GenerateEvent, GenerateOptions, Pipeline } from './pipeline.ts';
export { pipelineClasses } from './pipelines/index.ts';
export { trainingSamples } from './training-samples.ts';

export interface SampleOptions extends Omit<GenerateOptions, 'labels' | 'onEvent'> {
	/** A run, a checkpoint, a pipeline folder, or `owner/name` of a model on the hub. */
	readonly folder: string;
	/** Labels or class names; by default every class, up to 10. */
	readonly labels?: readonly (number | string)[];
	/** Images of each label or prompt. Default 4 of a label, 1 of a prompt. */
	readonly perLabel?: number;
	/** Default: one column per label or prompt. */
	readonly columns?: number;
	/** Default: `samples.png` in the folder sampled from; for a model of the hub in the working folder. */
	readonly output?: string;
	/** Devices to share the images. Default 1. */
	readonly devices?: number;
	/** Folder of a ControlNet, or its name on the hub. */
	readonly controlNet?: string;
	/** LoRA files, folders or runs to add, and what all LoRA is multiplied by. */
	readonly lora?: readonly string[];
	readonly loraScale?: number;
	readonly onEvent?: (event: SampleEvent) => void;
}

export type SampleEvent =
	| GenerateEvent
	/** Bytes of a model of the hub that are here, and all there are. */
	| { readonly kind: 'fetch'; readonly bytes: number; readonly total: number };

/** Draws a grid of images and writes it as PNG. Throws input errors before any work. */
export async function sampleToFile(options: SampleOptions): Promise<{ output: string; images: number; seconds: number }> {
	const { folder, labels, prompts, perLabel, columns, output: wanted, devices, controlNet, lora, loraScale, onEvent, ...rest } = options;
	const say = onEvent ?? (() => {});
	const pipeline = await createPipeline(folder, {
		signal: options.signal,
		onFetch: (event) => tellFetch(event, say),
		...(devices === undefined ? {} : { devices }),
		...(controlNet === undefined ? {} : { controlNet }),
		lora,
		loraScale,
	});
	try {
		const { asked, across } = whatToDraw(pipeline, options);
		say({ kind: 'note', text: `sampling from ${pipeline.folder} (${pipeline.className})` });
		tellSampling(pipeline.sampling, options, say);
		const began = performance.now();
		const { images, shape } = await pipeline.generate({ ...rest, ...asked, onEvent: say });
		const picture = pictureOf(images, shape, columns ?? across);
		const local = await stat(folder).then(
			() => true,
			() => false,
		);
		const output = wanted ?? (local ? join(pipeline.folder, 'samples.png') : 'samples.png');
		await writeWhole(output, picture.png);
		return { output, images: shape[0], seconds: (performance.now() - began) / 1000 };
	} finally {
		await pipeline.close();
	}
}

/** The labels or prompts, each as often as wanted, round by round; what the pipeline does not take is left for it to refuse. */
function whatToDraw(
	{ takes, classes, labelCount }: Pipeline,
	{ labels, prompts, perLabel }: SampleOptions,
): { asked: Pick<GenerateOptions, 'labels' | 'prompts'>; across: number } {
	const rounds = <T>(list: readonly T[], each: number) => Array.from({ length: perLabel ?? each }, () => list).flat();
	if (takes === 'prompts') {
		const own = prompts ?? [];
		return { asked: { prompts: rounds(own, 1), ...(labels === undefined ? {} : { labels: [] }) }, across: own.length };
	}
	if (prompts !== undefined) return { asked: { prompts }, across: 1 };
	const own = labelsOf(labels, classes, labelCount);
	return { asked: { labels: rounds(own, 4) }, across: own.length };
}

/** Says which of the run's own settings are taken. */
function tellSampling({ steps, guidanceScale }: SampleConfig, given: SampleOptions, say: (event: SampleEvent) => void): void {
	const own = [
		steps !== undefined && given.steps === undefined ? `${steps} steps` : '',
		guidanceScale !== undefined && given.guidanceScale === undefined ? `guidance scale ${guidanceScale}` : '',
	].filter((text) => text !== '');
	if (own.length > 0) say({ kind: 'note', text: `${own.join(', ')}: as its run drew` });
}

function tellFetch(event: HubEvent, say: (event: SampleEvent) => void): void {
	if (event.kind === 'note') say({ kind: 'note', text: event.text });
	else if (event.kind === 'progress') say({ kind: 'fetch', bytes: event.bytes, total: event.total });
	else if (event.cachedBytes < event.bytes) {
		say({ kind: 'note', text: `fetching ${event.files} files, ${((event.bytes - event.cachedBytes) / 1e9).toFixed(1)} GB to go` });
	}
}
