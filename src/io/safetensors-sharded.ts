/** @file Weights spread over several safetensors files with an index that maps each name to its file. */
import { dirname, join } from 'node:path';
import { DiffusionPipeError } from '../core/errors.ts';
import { byteSize, type Tensor } from '../core/tensor.ts';
import { readJsonObject, writeJson } from './json-file.ts';
import { missingTensor, type NamedTensor, openSafetensors, type TensorReader, writeSafetensors } from './safetensors.ts';
import type { TensorInfo } from './safetensors-header.ts';

/** The file names of weights called `base` (as `diffusion_pytorch_model`), with the variant (as `fp16`) where diffusers puts it. */
export function weightFileNames(
	base: string,
	variant?: string,
): { single: string; index: string; shard: (i: number, of: number) => string } {
	const stem = variant === undefined ? base : `${base}.${variant}`;
	const five = (n: number): string => String(n).padStart(5, '0');
	return {
		single: `${stem}.safetensors`,
		index: variant === undefined ? `${base}.safetensors.index.json` : `${base}.safetensors.index.${variant}.json`,
		shard: (i, of) => `${stem}-${five(i + 1)}-of-${five(of)}.safetensors`,
	};
}

/** How weights are laid out on disk. */
export interface ShardOptions {
	/** Bytes of tensors in one file, unless a single tensor is larger. Default 10 GB, as diffusers saves. */
	readonly maxShardBytes?: number;
	/** As `fp16`: a part of the file names. */
	readonly variant?: string;
	/** Strings stored in each file. Default `{ format: 'pt' }`. */
	readonly metadata?: Readonly<Record<string, string>>;
}

/**
 * Writes weights into `folder` as one file, or as numbered shards with an index when they are larger than `maxShardBytes`. The index is
 * written last, so shards without an index are an unfinished save. Returns the names of the files.
 */
export async function writeWeights(
	folder: string,
	base: string,
	tensors: Iterable<NamedTensor>,
	options: ShardOptions = {},
): Promise<string[]> {
	const { maxShardBytes = 10e9, variant, metadata = { format: 'pt' } } = options;
	const shards = splitShards([...tensors], maxShardBytes);
	const names = weightFileNames(base, variant);
	if (shards.length <= 1) {
		await writeSafetensors(join(folder, names.single), shards[0] ?? [], metadata);
		return [names.single];
	}
	const weightMap: [string, string][] = [];
	let totalSize = 0;
	for (const [i, shard] of shards.entries()) {
		const name = names.shard(i, shards.length);
		await writeSafetensors(join(folder, name), shard, metadata);
		for (const tensor of shard) {
			weightMap.push([tensor.name, name]);
			totalSize += byteSize(tensor);
		}
	}
	weightMap.sort(([a], [b]) => (a < b ? -1 : 1));
	await writeJson(join(folder, names.index), { metadata: { total_size: totalSize }, weight_map: Object.fromEntries(weightMap) });
	return [...shards.map((_, i) => names.shard(i, shards.length)), names.index];
}

/** Fills shards in order, starting a new one when the next tensor would not fit. */
function splitShards(tensors: readonly NamedTensor[], maxShardBytes: number): NamedTensor[][] {
	const shards: NamedTensor[][] = [];
	let room = 0;
	for (const tensor of tensors) {
		const bytes = byteSize(tensor);
		if (shards.length === 0 || bytes > room) {
			shards.push([]);
			room = maxShardBytes;
		}
		shards.at(-1)!.push(tensor);
		room -= bytes;
	}
	return shards;
}

/**
 * Opens the shards that the index file `path` names, all headers checked, as one reader.
 * @throws DiffusionPipeError of kind 'input' when the index is malformed, or a shard is missing, malformed or lacks a tensor it should hold
 */
export async function openSharded(path: string): Promise<TensorReader> {
	const fileOf = parseWeightMap(await readJsonObject(path), path);
	const readers = new Map<string, TensorReader>();
	const closeAll = async (): Promise<void> => {
		for (const reader of readers.values()) await reader.close();
	};
	try {
		for (const [name, file] of fileOf) {
			let reader = readers.get(file);
			if (reader === undefined) {
				reader = await openSafetensors(join(dirname(path), file));
				readers.set(file, reader);
			}
			if (!reader.has(name)) {
				throw new DiffusionPipeError('input', `tensor ${JSON.stringify(name)} is not in the file that the index names`, {
					place: path,
					expected: `in ${file}`,
					hint: 'fetch the index and all shards again, from one version',
				});
			}
		}
	} catch (error) {
		await closeAll();
		throw error;
	}
	const readerOf = (name: string): TensorReader => readers.get(fileOf.get(name) ?? missingTensor(path, name))!;
	return {
		names: [...fileOf.keys()],
		metadata: [...readers.values()][0]?.metadata ?? {},
		has: (name: string): boolean => fileOf.has(name),
		info: (name: string): TensorInfo => readerOf(name).info(name),
		read: async (name: string): Promise<Tensor> => readerOf(name).read(name),
		readSync: (name: string): Tensor => readerOf(name).readSync(name),
		close: closeAll,
	};
}

function parseWeightMap(index: Record<string, unknown>, path: string): Map<string, string> {
	const map = index.weight_map;
	if (typeof map !== 'object' || map === null || Array.isArray(map)) {
		throw new DiffusionPipeError('input', 'weight_map is missing', {
			place: path,
			expected: 'weight_map: { tensor name: file name }',
			found: Object.keys(index).join(', ') || 'an empty object',
		});
	}
	const fileOf = new Map<string, string>();
	for (const [name, file] of Object.entries(map)) {
		// A file name from a downloaded index must not lead out of its folder.
		if (typeof file !== 'string' || file === '' || /[\\/]/.test(file) || file === '..') {
			throw new DiffusionPipeError('input', `weight_map names no file for ${JSON.stringify(name)}`, {
				place: path,
				expected: 'the name of a file in the same folder',
				found: JSON.stringify(file),
			});
		}
		fileOf.set(name, file);
	}
	return fileOf;
}
