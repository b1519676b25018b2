/** @file Finds out what a path holds, and describes it. */
import { readdir, stat } from 'node:fs/promises';
import { basename, dirname, extname, join } from 'node:path';
import { DiffusionPipeError } from '../../core/errors.ts';
import { fileError } from '../../io/file-error.ts';
import { describeGraph } from './graph.ts';
import { describeConfigFile, describeModelFolder } from './model.ts';
import { describePipeline } from './pipeline.ts';
import { describeRun } from './run.ts';
import { describeWeightsFile } from './weights.ts';

/** A description: data for programs, lines for people. */
export interface Description {
	readonly document: Readonly<Record<string, unknown>>;
	readonly lines: readonly string[];
}

export interface InspectOptions {
	/** Print graphs whole. */
	readonly text: boolean;
	/** Sizes of symbolic dimensions of graphs. */
	readonly dims: Readonly<Record<string, number>>;
}

/** Describes what is at `path`. Throws an input error when it is missing or nothing we know. */
export async function inspectPath(path: string, options: InspectOptions): Promise<Description> {
	const found = await stat(path).catch((error: unknown) => {
		throw fileError(path, 'open', error);
	});
	return found.isDirectory() ? inspectFolder(path) : inspectFile(path, options);
}

async function inspectFolder(path: string): Promise<Description> {
	const names = new Set(await readdir(path));
	if (names.has('model_index.json')) return describePipeline(path);
	// The config.json of a run is that of its training, not of a model.
	if (names.has('checkpoints') || names.has('metrics.jsonl')) return describeRun(path);
	if (names.has('config.json')) return describeModelFolder(path);
	throw new DiffusionPipeError('input', 'holds nothing to inspect', {
		place: path,
		expected: 'a model folder, a pipeline, a checkpoint or a run',
		found: [...names].sort().slice(0, 8).join(', ') || 'an empty folder',
	});
}

async function inspectFile(path: string, options: InspectOptions): Promise<Description> {
	if (basename(path) === 'model_index.json') return inspectFolder(dirname(path));
	switch (extname(path).toLowerCase()) {
		case '.safetensors':
			return describeWeightsFile(path);
		case '.onnx':
			return describeGraph(path, options);
		case '.json':
			return path.endsWith('.safetensors.index.json') ? describeWeightsFile(path) : describeConfigFile(path);
		default:
			throw new DiffusionPipeError('input', 'is no kind of file we can inspect', {
				place: path,
				expected: '.safetensors, .onnx, config.json, or a folder',
				...(/\.(bin|ckpt|pt|pth)$/.test(path)
					? { hint: `convert it to safetensors first: ${join(dirname(path), 'model.safetensors')}` }
					: {}),
			});
	}
}
