/** @file Model folders as diffusers lays them out: `config.json` beside safetensors weights, and the `model_index.json` of a pipeline. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { DiffusionPipeError } from '../core/errors.ts';
import { type FolderOptions, writeFolderAtomic } from './atomic.ts';
import { fileError } from './file-error.ts';
import { readJson, readJsonObject, writeJson } from './json-file.ts';
import { type NamedTensor, openSafetensors, type TensorReader } from './safetensors.ts';
import { openSharded, type ShardOptions, weightFileNames, writeWeights } from './safetensors-sharded.ts';

/** A model on disk. The caller closes `weights`. */
export interface ModelFolder {
	/** The content of `config.json`, unchecked: each model knows its own keys. */
	readonly config: unknown;
	readonly weights: TensorReader;
	/** The weights file or index that was opened. */
	readonly weightsFile: string;
}

/** Names of weights: diffusers' models, then transformers'. */
const bases = ['diffusion_pytorch_model', 'model'] as const;

/**
 * Opens the model in the folder `dir`: its config and its weights, one file or shards. Tensors are read when asked for.
 * @param options.variant takes the files with this part in their names, as `fp16`
 * @throws DiffusionPipeError of kind 'input' when the folder, config or weights are missing or malformed
 */
export async function readModelFolder(dir: string, options: { variant?: string } = {}): Promise<ModelFolder> {
	const names = await listFolder(dir);
	if (!names.has('config.json')) {
		throw new DiffusionPipeError('input', 'holds no config.json', {
			place: dir,
			expected: 'a model folder: config.json and *.safetensors',
			found: some(names),
			...(names.has('model_index.json') ? { hint: `this is a pipeline: give one of its parts, as ${join(dir, 'unet')}` } : {}),
		});
	}
	const weightsFile = findWeights(dir, names, options.variant);
	const config = await readJson(join(dir, 'config.json'));
	const path = join(dir, weightsFile);
	const weights = weightsFile.endsWith('.json') ? await openSharded(path) : await openSafetensors(path);
	return { config, weights, weightsFile };
}

/** How to write a model folder. */
export interface WriteModelOptions extends ShardOptions, FolderOptions {
	/** Name of the weights: `diffusion_pytorch_model` (default) for diffusers' models, `model` for transformers'. */
	readonly base?: (typeof bases)[number];
}

/**
 * Writes `config` and the tensors as the model folder `dir`, whole or not at all, so that diffusers can load it.
 * @throws DiffusionPipeError when the folder is there already and `replace` is not set, or cannot be written
 */
export async function writeModelFolder(
	dir: string,
	config: unknown,
	tensors: Iterable<NamedTensor>,
	options: WriteModelOptions = {},
): Promise<void> {
	const { base = bases[0], replace = false, ...shardOptions } = options;
	await writeFolderAtomic(
		dir,
		async (folder) => {
			await writeWeights(folder, base, tensors, shardOptions);
			await writeJson(join(folder, 'config.json'), config);
		},
		{ replace },
	);
}

/** The content of `model_index.json`. */
export interface PipelineIndex {
	readonly className: string;
	readonly diffusersVersion: string | undefined;
	/** By part, as `unet`: the library and the class; null for a part that the pipeline has but this folder does not. */
	readonly parts: Readonly<Record<string, readonly [library: string, className: string] | null>>;
	/** The other entries, as `requires_safety_checker`. */
	readonly options: Readonly<Record<string, unknown>>;
}

/**
 * Reads the `model_index.json` of the pipeline folder `dir`.
 * @throws DiffusionPipeError of kind 'input' naming the file when it is missing or malformed
 */
export async function readPipelineIndex(dir: string): Promise<PipelineIndex> {
	const path = join(dir, 'model_index.json');
	const { _class_name: className, _diffusers_version: version, ...entries } = await readJsonObject(path);
	if (typeof className !== 'string') {
		throw new DiffusionPipeError('input', '_class_name is missing', {
			place: path,
			expected: 'the name of a pipeline class, as "StableDiffusionPipeline"',
			found: JSON.stringify(className) ?? 'nothing',
		});
	}
	const parts: Record<string, readonly [string, string] | null> = {};
	const options: Record<string, unknown> = {};
	for (const [name, value] of Object.entries(entries)) {
		if (!Array.isArray(value)) options[name] = value;
		else if (value.length === 2 && value.every((v) => v === null)) parts[name] = null;
		else if (value.length === 2 && value.every((v) => typeof v === 'string')) parts[name] = value as [string, string];
		else {
			throw new DiffusionPipeError('input', `the entry of part ${JSON.stringify(name)} is malformed`, {
				place: path,
				expected: '[library, class]',
				found: JSON.stringify(value).slice(0, 80),
			});
		}
	}
	return { className, diffusersVersion: typeof version === 'string' ? version : undefined, parts, options };
}

/** Writes `model_index.json` into the pipeline folder `dir`. */
export async function writePipelineIndex(dir: string, index: PipelineIndex): Promise<void> {
	const parts = Object.entries(index.parts).map(([name, part]) => [name, part ?? [null, null]]);
	await writeJson(join(dir, 'model_index.json'), {
		_class_name: index.className,
		...(index.diffusersVersion === undefined ? {} : { _diffusers_version: index.diffusersVersion }),
		...index.options,
		...Object.fromEntries(parts),
	});
}

function findWeights(dir: string, names: ReadonlySet<string>, variant: string | undefined): string {
	const candidates = bases.flatMap((base) => {
		const { single, index } = weightFileNames(base, variant);
		// Older saves put the variant before the file type in the name of the index, too.
		const older = variant === undefined ? [] : [`${base}.${variant}.safetensors.index.json`];
		return [single, index, ...older];
	});
	const found = candidates.find((name) => names.has(name));
	if (found !== undefined) return found;
	throw new DiffusionPipeError('input', variant === undefined ? 'holds no weights' : `holds no weights of variant "${variant}"`, {
		place: dir,
		expected: candidates.join(' or '),
		found: some(names),
		...hintFor(names, variant),
	});
}

function hintFor(names: ReadonlySet<string>, variant: string | undefined): { hint?: string } {
	const all = [...names];
	const variants = new Set(all.map((name) => /^(?:diffusion_pytorch_model|model)\.([^.]+?)(?:-\d+-of-\d+)?\.safetensors$/.exec(name)?.[1]));
	variants.delete(undefined);
	if (variants.size > 0) return { hint: `ask for the variant ${[...variants].map((v) => `"${v}"`).join(' or ')}` };
	if (variant !== undefined && all.some((name) => name.endsWith('.safetensors'))) return { hint: 'leave out the variant' };
	if (all.some((name) => /\.(bin|ckpt|pt)$/.test(name))) return { hint: 'convert the pickled weights (.bin, .ckpt) to safetensors' };
	return {};
}

async function listFolder(dir: string): Promise<Set<string>> {
	try {
		return new Set(await readdir(dir));
	} catch (error) {
		throw fileError(dir, 'open the model folder', error);
	}
}

function some(names: ReadonlySet<string>): string {
	if (names.size === 0) return 'an empty folder';
	const sorted = [...names].sort();
	return sorted.length > 8 ? `${sorted.slice(0, 8).join(', ')} and ${sorted.length - 8} more` : sorted.join(', ');
}
