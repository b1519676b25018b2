/** @file Finding the pipeline to sample from: a pipeline folder, a checkpoint, a run, or a model of the hub. */
import { readFile, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { DiffusionPipeError } from '../core/errors.ts';
import { parseSchedulerConfig, type SchedulerConfig } from '../diffusion/samplers/index.ts';
import { fileError } from '../io/file-error.ts';
import { type HubEvent, resolveModel } from '../io/hub.ts';
import { readPipelineIndex } from '../io/model-folder.ts';
import type { TensorReader } from '../io/safetensors.ts';
import { readSampleConfig } from '../io/sample-config.ts';
import { createDenoiser, type Denoiser } from '../models/index.ts';
import { listCheckpoints } from '../train/checkpoint.ts';
import { runFolder } from '../train/run-folder.ts';
import { withLora } from './lora.ts';
import { denoiserName, exists, openPart, partClass } from './parts.ts';
import type { PipelineFolder } from './pipeline.ts';

/** A denoiser opened by itself. The caller closes `weights`. */
export interface OpenPipeline {
	readonly folder: string;
	readonly denoiser: Denoiser;
	readonly weights: TensorReader;
	readonly scheduler: SchedulerConfig;
	/** Names of the classes by label. */
	readonly classes: readonly string[] | undefined;
}

/** How a model of the hub is fetched. */
export interface FetchOptions {
	readonly signal?: AbortSignal | undefined;
	readonly onFetch?: ((event: HubEvent) => void) | undefined;
}

/**
 * The folder with `model_index.json` that `folder` means: itself, a run's finished pipeline, a run's newest checkpoint, or, where there is no such
 * folder and it reads `owner/name`, the copy of that model of the hub, fetched first where it is not complete.
 */
export async function resolvePipeline(folder: string, { signal, onFetch }: FetchOptions = {}): Promise<string> {
	if (!(await isFolder(folder))) {
		if (await isFolder(dirname(folder))) refuse(folder, 'there is no such folder');
		return resolveModel(folder, { ...(signal ? { signal } : {}), ...(onFetch ? { onEvent: onFetch } : {}) });
	}
	if (await exists(join(folder, 'model_index.json'))) return folder;
	const run = runFolder(folder);
	if (await exists(join(run.pipeline, 'model_index.json'))) return run.pipeline;
	const newest = (await listCheckpoints(run.checkpoints)).at(-1);
	if (newest) return newest.path;
	return refuse(folder, 'holds nothing to sample from');
}

function refuse(folder: string, what: string): never {
	throw new DiffusionPipeError('input', what, {
		place: folder,
		expected: 'a run, a checkpoint, or a pipeline folder with model_index.json',
		hint: 'train a model first: diffusionpipe train mnist',
	});
}

function isFolder(path: string): Promise<boolean> {
	return stat(path).then(
		(found) => found.isDirectory(),
		() => false,
	);
}

/** Reads the index and the scheduler of the pipeline that `folder` means. */
export async function readPipelineFolder(folder: string, options: FetchOptions = {}): Promise<PipelineFolder> {
	const resolved = await resolvePipeline(folder, options);
	const index = await readPipelineIndex(resolved);
	partClass(resolved, index, 'scheduler');
	const schedulerFile = join(resolved, 'scheduler', 'scheduler_config.json');
	const text = await readFile(schedulerFile, 'utf8').catch((error: unknown) => {
		throw fileError(schedulerFile, 'read', error);
	});
	const sampling = await readSampleConfig(resolved);
	return { folder: resolved, index, scheduler: parseSchedulerConfig(text, schedulerFile), schedulerFile, sampling };
}

/** Opens the denoiser of the pipeline that `folder` means. A checkpoint's averaged weights are taken when it has them. */
export async function openPipeline(folder: string): Promise<OpenPipeline> {
	const { folder: resolved, index, scheduler } = await readPipelineFolder(folder);
	const own = await openPart(resolved, index, denoiserName(resolved, index));
	try {
		const part = await withLora(own, resolved, {});
		const denoiser = createDenoiser(part.className, part.config, part.place);
		return { folder: resolved, denoiser, weights: part.weights, scheduler, classes: classNames(index.options.id2label) };
	} catch (error) {
		await own.weights.close();
		throw error;
	}
}

/** Names of the classes by label from `id2label` of `model_index.json`. */
export function classNames(id2label: unknown): string[] | undefined {
	if (typeof id2label !== 'object' || id2label === null) return undefined;
	const entries = Object.entries(id2label).filter((e): e is [string, string] => typeof e[1] === 'string');
	const names: string[] = [];
	for (const [id, name] of entries) names[Number(id)] = name;
	return names;
}
