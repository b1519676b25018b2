/** @file Finding the pipeline to sample from: a pipeline folder, a checkpoint, or a run. */
import { access, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DiffusionPipeError } from '../core/errors.ts';
import { parseSchedulerConfig, type SchedulerConfig } from '../diffusion/samplers/index.ts';
import { fileError } from '../io/file-error.ts';
import { readModelFolder, readPipelineIndex } from '../io/model-folder.ts';
import type { TensorReader } from '../io/safetensors.ts';
import { createDenoiser, type Denoiser } from '../models/index.ts';
import { listCheckpoints } from '../train/checkpoint.ts';
import { runFolder } from '../train/run-folder.ts';

/** A pipeline opened for sampling. The caller closes `weights`. */
export interface OpenPipeline {
	readonly folder: string;
	readonly denoiser: Denoiser;
	readonly weights: TensorReader;
	readonly scheduler: SchedulerConfig;
	/** Names of the classes by label. */
	readonly classes: readonly string[] | undefined;
}

const exists = (path: string) =>
	access(path).then(
		() => true,
		() => false,
	);

/** The folder with `model_index.json` that `folder` means: itself, a run's finished pipeline, or a run's newest checkpoint. */
export async function resolvePipeline(folder: string): Promise<string> {
	if (await exists(join(folder, 'model_index.json'))) return folder;
	const run = runFolder(folder);
	if (await exists(join(run.pipeline, 'model_index.json'))) return run.pipeline;
	const newest = (await listCheckpoints(run.checkpoints)).at(-1);
	if (newest) return newest.path;
	throw new DiffusionPipeError('input', 'holds nothing to sample from', {
		place: folder,
		expected: 'a run, a checkpoint, or a pipeline folder with model_index.json',
		hint: 'train a model first: diffusionpipe train mnist',
	});
}

/** Opens the pipeline that `folder` means. A checkpoint's averaged weights are taken when it has them. */
export async function openPipeline(folder: string): Promise<OpenPipeline> {
	const resolved = await resolvePipeline(folder);
	const index = await readPipelineIndex(resolved);
	const part = index.parts.transformer ?? index.parts.unet;
	if (!part) {
		throw new DiffusionPipeError('input', 'has no denoiser', {
			place: join(resolved, 'model_index.json'),
			expected: 'a part transformer or unet',
			found: Object.keys(index.parts).join(', '),
		});
	}
	const name = index.parts.transformer ? 'transformer' : 'unet';
	const averaged = join(resolved, `${name}_ema`);
	const modelFolder = (await exists(averaged)) ? averaged : join(resolved, name);
	const schedulerFile = join(resolved, 'scheduler', 'scheduler_config.json');
	const text = await readFile(schedulerFile, 'utf8').catch((error: unknown) => {
		throw fileError(schedulerFile, 'read', error);
	});
	const scheduler = parseSchedulerConfig(text, schedulerFile);
	const { config, weights } = await readModelFolder(modelFolder);
	const denoiser = createDenoiser(part[1], config, join(modelFolder, 'config.json'));
	return { folder: resolved, denoiser, weights, scheduler, classes: classNames(index.options.id2label) };
}

function classNames(id2label: unknown): string[] | undefined {
	if (typeof id2label !== 'object' || id2label === null) return undefined;
	const entries = Object.entries(id2label).filter((e): e is [string, string] => typeof e[1] === 'string');
	const names: string[] = [];
	for (const [id, name] of entries) names[Number(id)] = name;
	return names;
}
