/** @file Rows that a frozen part computes, kept on disk by what determines them: the part's weights and config, and the input. Shared between runs. */
import { createHash } from 'node:crypto';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { numberToHalf, sizeOf, type Tensor } from '../../core/tensor.ts';
import { toFloat32 } from '../../io/half.ts';
import { writeJson } from '../../io/json-file.ts';
import type { TensorReader } from '../../io/safetensors.ts';
import type { RowCache } from '../row-cache.ts';
import { listShards, type RowPlace, readRows, writeIndex, writeShard } from './shards.ts';

/** Where and how rows are kept. */
export interface DiskCacheOptions {
	/** Folder of all caches. */
	readonly dir: string;
	/** float16 takes half the space; rows are rounded to it when they are computed, too, so that a cold and a warm run train on the same. */
	readonly dtype: 'float32' | 'float16';
	/** Told when rows cannot be kept, once; they are computed each time then. */
	readonly onProblem?: (text: string) => void;
	/** Bytes of rows gathered before they are written. Default 64 MiB. */
	readonly shardBytes?: number;
	/** Milliseconds after which what there is is written. Default 30 s: what a run that is killed loses at most. */
	readonly flushMs?: number;
	/** Milliseconds of a steady clock. Default performance.now. */
	readonly clock?: () => number;
}

/** What a cache was asked for so far. */
export interface CacheCounts {
	readonly read: number;
	readonly computed: number;
	/** Rows found damaged or cut off, which are computed again when they are asked for. */
	readonly damaged: number;
}

/** A cache of rows by digests (in hex, 64 digits). */
export interface DiskCache {
	readonly rows: RowCache;
	counts(): CacheCounts;
	/** Writes what is not written yet. */
	flush(): Promise<void>;
}

/** `diffusionpipe/frozen` below the user's folder of caches (`XDG_CACHE_HOME`, else `~/.cache`). */
export function defaultCacheDir(): string {
	return join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'diffusionpipe', 'frozen');
}

/** SHA-256 of an input, as the key of its row. */
export function digestOf(data: Float32Array | BigInt64Array): string {
	return createHash('sha256')
		.update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength))
		.digest('hex');
}

/** SHA-256 of what a part computes with: all its tensors, and `facts` (config, sizes, anything that changes its rows). */
export async function digestOfPart(weights: TensorReader, facts: unknown): Promise<string> {
	const hash = createHash('sha256').update(`rows 1 ${JSON.stringify(facts)}`);
	for (const name of [...weights.names].sort()) {
		const { dtype, shape, data }: Tensor = await weights.read(name);
		hash.update(`${name} ${dtype} [${shape.join(',')}]`).update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
	}
	return hash.digest('hex');
}

/**
 * Opens the rows of one part, of shape `shape` each, in a folder of their own named by `part` and its digest. Rows are verified when they are read; a damaged
 * one is computed and written again.
 * @throws DiffusionPipeError of kind 'input' when the folder cannot be made or read
 */
export async function openDiskCache(
	part: { readonly name: string; readonly digest: string; readonly shape: readonly number[] },
	{ dir, dtype, onProblem = () => {}, shardBytes = 2 ** 26, flushMs = 30_000, clock = () => performance.now() }: DiskCacheOptions,
): Promise<DiskCache> {
	const elements = sizeOf(part.shape);
	const rowBytes = elements * (dtype === 'float16' ? 2 : 4);
	const folder = join(dir, `${part.name}-${part.digest.slice(0, 16)}-${dtype}-${part.shape.join('x')}`);
	const listing = await listShards(folder, rowBytes);
	await writeJson(join(folder, 'cache.json'), { version: 1, part: part.name, digest: part.digest, shape: part.shape, dtype });
	const places = new Map<string, RowPlace>(listing.places);
	let pending = new Map<string, Uint8Array>();
	let [read, computed, damaged] = [0, 0, listing.damaged];
	let [broken, wroteAt] = [false, clock()];
	let writing: Promise<void> = Promise.resolve();

	const encoded = (row: Float32Array): Uint8Array => {
		const stored = dtype === 'float16' ? Uint16Array.from(row, numberToHalf) : row.slice();
		return new Uint8Array(stored.buffer, stored.byteOffset, stored.byteLength);
	};
	const decoded = (bytes: Uint8Array): Float32Array => {
		// A copy: a record's row need not be aligned in what was read.
		const { buffer } = new Uint8Array(bytes);
		return dtype === 'float16' ? toFloat32({ dtype, shape: [elements], data: new Uint16Array(buffer) }).data : new Float32Array(buffer);
	};
	const flush = (): Promise<void> => {
		const rows = pending;
		pending = new Map();
		wroteAt = clock();
		const write = async () => {
			if (rows.size === 0 || broken) return;
			try {
				const id = await writeShard(folder, [...rows]);
				[...rows.keys()].forEach((key, position) => void places.set(key, { id, position }));
			} catch (error) {
				broken = true;
				onProblem(`rows of ${part.name} are not kept: ${error instanceof Error ? error.message : String(error)}`);
			}
		};
		writing = writing.then(write);
		return writing;
	};
	/** Takes damaged rows out of their shards' indices, so that nobody tries them again. */
	const forget = async (keys: readonly string[]) => {
		const ids = new Set(keys.map((key) => places.get(key)!.id));
		for (const key of keys) places.delete(key);
		for (const id of ids) {
			const left = [...places].flatMap(([key, place]) => (place.id === id ? [[key, place.position] as const] : []));
			await writeIndex(folder, id, left).catch(() => {});
		}
	};
	return {
		async rows(keys, compute) {
			await writing;
			const found = new Map<string, Float32Array>();
			const onDisk = [...new Set(keys)].flatMap((key) => {
				const place = places.get(key);
				return place ? [[key, place] as const] : [];
			});
			const stored = await readRows(folder, rowBytes, onDisk);
			const bad = onDisk.filter((_, i) => stored[i] === undefined).map(([key]) => key);
			onDisk.forEach(([key], i) => {
				if (stored[i]) found.set(key, decoded(stored[i]));
			});
			read += found.size;
			damaged += bad.length;
			if (bad.length > 0) await forget(bad);
			const missing = new Map<string, number>();
			keys.forEach((key, place) => {
				const waiting = pending.get(key);
				if (waiting && !found.has(key)) found.set(key, decoded(waiting));
				else if (!found.has(key) && !missing.has(key)) missing.set(key, place);
			});
			if (missing.size > 0) {
				const made = await compute([...missing.values()]);
				computed += missing.size;
				[...missing.keys()].forEach((key, i) => {
					const bytes = encoded(made[i]!);
					found.set(key, decoded(bytes));
					if (!broken) pending.set(key, bytes);
				});
			}
			if (pending.size * rowBytes >= shardBytes || (pending.size > 0 && clock() - wroteAt >= flushMs)) await flush();
			return keys.map((key) => found.get(key)!);
		},
		counts: () => ({ read, computed, damaged }),
		flush,
	};
}
