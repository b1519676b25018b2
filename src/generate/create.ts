/** @file Opening a pipeline of any class. */
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { DiffusionPipeError } from '../core/errors.ts';
import { resolveModel } from '../io/hub.ts';
import { partFolder } from '../train/part-folder.ts';
import { cascadeFolders, openCascadePipeline } from './cascade-pipeline.ts';
import { type FetchOptions, readPipelineFolder } from './folder.ts';
import type { LoraOptions } from './lora.ts';
import { type ModelPart, openModel, type RunOptions } from './parts.ts';
import type { Pipeline } from './pipeline.ts';
import { pipelineClass } from './pipelines/index.ts';

/** How a pipeline is run. */
export interface PipelineOptions extends FetchOptions, LoraOptions {
	/** Devices to share rows of every part. Default 1. */
	readonly devices?: number;
	/** Threads inside one operator. Default: the machine's cores shared by the devices. */
	readonly threads?: number;
	/** Folder of a ControlNet, of a pipeline or run with one, or its name on the hub, for a pipeline that does not hold one. */
	readonly controlNet?: string;
}

/** Devices and threads of a pipeline, defaults filled in. Throws a usage error for a number of devices that is none. */
export function runOptions({
	devices = 1,
	threads,
}: {
	readonly devices?: number | undefined;
	readonly threads?: number | undefined;
}): RunOptions {
	if (!Number.isSafeInteger(devices) || devices < 1) {
		throw new DiffusionPipeError('usage', 'has a wrong value', {
			place: 'devices',
			expected: 'a whole number above 0',
			found: String(devices),
		});
	}
	return { devices, threads: threads ?? Math.max(1, Math.floor(availableParallelism() / devices)) };
}

/**
 * Opens the pipeline that `folder` means: a pipeline folder, a run, a checkpoint, or `owner/name` of the hub; of a cascade both models, as one. Models are read and checked as far as
 * that goes without running them. The caller closes it.
 * @throws DiffusionPipeError of kind 'input' for a part that is missing or a class that is not supported, 'config' for options of a model that are not
 */
export async function createPipeline(folder: string, options: PipelineOptions = {}): Promise<Pipeline> {
	const { signal, onFetch, lora, loraScale } = options;
	const { devices, threads } = runOptions(options);
	const cascade = await cascadeFolders(folder);
	if (cascade) return openCascadePipeline(cascade, { devices, threads, controlNet: options.controlNet, lora, loraScale });
	const place = await readPipelineFolder(folder, { signal, onFetch });
	const open = pipelineClass(place);
	let controlNet: ModelPart | undefined;
	if (options.controlNet !== undefined) {
		if (place.index.parts.controlnet) {
			throw new DiffusionPipeError('usage', 'the pipeline has a ControlNet of its own', {
				place: join(place.folder, 'controlnet'),
				found: options.controlNet,
				hint: 'leave out the other one',
			});
		}
		const own = await resolveModel(options.controlNet, { ...(signal ? { signal } : {}), ...(onFetch ? { onEvent: onFetch } : {}) });
		controlNet = await openModel(await partFolder(own, ['controlnet']), 'controlnet', 'ControlNetModel');
	}
	try {
		return await open(place, { devices, threads, controlNet, lora, loraScale });
	} catch (error) {
		await controlNet?.weights.close();
		throw error;
	}
}
