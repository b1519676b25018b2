/**
 * @file Rows of one size in shard files, each row with its key and a checksum. A shard is written whole by one process under a name of its own, so that
 * several can write side by side; its index only saves reading it through, and is made again from the shard when it is missing or damaged.
 *
 * `<id>.rows` is records one after the other: key (32 bytes), checksum (16 bytes, of key and row), row. `<id>.index` is `dprowix1`, a checksum of the rest
 * (16 bytes), and for every good record its key and its place in the shard (uint32, little-endian).
 */
import { createHash, randomBytes } from 'node:crypto';
import { type FileHandle, open, readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { writeFileAtomic, writeWhole } from '../../io/atomic.ts';
import { errorCode, fileError } from '../../io/file-error.ts';
import { makeFolder } from '../../io/make-folder.ts';

const keyBytes = 32;
const sumBytes = 16;
const entryBytes = keyBytes + 4;
const magic = Buffer.from('dprowix1');

/** Where a row lies. */
export interface RowPlace {
	/** Of the shard. */
	readonly id: string;
	readonly position: number;
}

/** What a folder of shards holds. */
export interface ShardListing {
	/** By key, in hex. */
	readonly places: ReadonlyMap<string, RowPlace>;
	/** Records found damaged or cut off. */
	readonly damaged: number;
}

function checksum(...parts: readonly Uint8Array[]): Buffer {
	const hash = createHash('sha256');
	for (const part of parts) hash.update(part);
	return hash.digest().subarray(0, sumBytes);
}

const rowsFile = (folder: string, id: string) => join(folder, `${id}.rows`);
const indexFile = (folder: string, id: string) => join(folder, `${id}.index`);

/** Lists the rows of `rowBytes` bytes in `folder`, which is made when missing. Indices that are missing, damaged or promise too much are made again. */
export async function listShards(folder: string, rowBytes: number): Promise<ShardListing> {
	const places = new Map<string, RowPlace>();
	let damaged = 0;
	try {
		await makeFolder(folder);
	} catch (error) {
		throw fileError(folder, 'make the folder of the cache', error);
	}
	try {
		const names = await readdir(folder);
		for (const name of names.sort()) {
			const id = /^([0-9a-f]{12})\.rows$/.exec(name)?.[1];
			if (id === undefined) continue;
			const { size } = await stat(rowsFile(folder, id));
			const whole = Math.floor(size / (keyBytes + sumBytes + rowBytes));
			let entries = await readIndex(folder, id);
			const beyond = entries?.filter(([, position]) => position >= whole).length ?? 0;
			damaged += beyond;
			if (!entries || beyond > 0 || size % (keyBytes + sumBytes + rowBytes) !== 0) {
				const found = await scan(folder, id, rowBytes, whole);
				if (!entries) damaged += whole - found.length;
				entries = found;
				await writeIndex(folder, id, entries);
			}
			for (const [key, position] of entries) places.set(key, { id, position });
		}
	} catch (error) {
		throw fileError(folder, 'read the cache', error);
	}
	return { places, damaged };
}

type Entry = readonly [key: string, position: number];

async function readIndex(folder: string, id: string): Promise<Entry[] | undefined> {
	const bytes = await readFile(indexFile(folder, id)).catch((error: unknown) => {
		if (errorCode(error) === 'ENOENT') return undefined;
		throw error;
	});
	const start = magic.length + sumBytes;
	if (!bytes || bytes.length < start || !bytes.subarray(0, magic.length).equals(magic) || (bytes.length - start) % entryBytes !== 0)
		return undefined;
	const body = bytes.subarray(start);
	if (!checksum(body).equals(bytes.subarray(magic.length, start))) return undefined;
	return Array.from({ length: body.length / entryBytes }, (_, i): Entry => {
		const at = i * entryBytes;
		return [body.toString('hex', at, at + keyBytes), body.readUInt32LE(at + keyBytes)];
	});
}

/** Writes the index of a shard: the keys and places of its good rows. */
export async function writeIndex(folder: string, id: string, entries: readonly Entry[]): Promise<void> {
	const body = Buffer.alloc(entries.length * entryBytes);
	entries.forEach(([key, position], i) => {
		body.write(key, i * entryBytes, 'hex');
		body.writeUInt32LE(position, i * entryBytes + keyBytes);
	});
	await writeWhole(indexFile(folder, id), Buffer.concat([magic, checksum(body), body]));
}

/** The good records among the first `whole` of a shard. */
async function scan(folder: string, id: string, rowBytes: number, whole: number): Promise<Entry[]> {
	const file = await open(rowsFile(folder, id), 'r');
	try {
		const found: Entry[] = [];
		const record = Buffer.alloc(keyBytes + sumBytes + rowBytes);
		for (let position = 0; position < whole; position++) {
			if (await readRecord(file, record, position)) found.push([record.toString('hex', 0, keyBytes), position]);
		}
		return found;
	} finally {
		await file.close();
	}
}

/** True when the record is there and its checksum fits. */
async function readRecord(file: FileHandle, record: Buffer, position: number): Promise<boolean> {
	const { bytesRead } = await file.read(record, 0, record.length, position * record.length);
	if (bytesRead < record.length) return false;
	const [key, sum, row] = [
		record.subarray(0, keyBytes),
		record.subarray(keyBytes, keyBytes + sumBytes),
		record.subarray(keyBytes + sumBytes),
	];
	return checksum(key, row).equals(sum);
}

/** Reads rows at their places; undefined where a row is damaged, or is not that of its key, or its shard is gone. */
export async function readRows(
	folder: string,
	rowBytes: number,
	wanted: readonly (readonly [key: string, place: RowPlace])[],
): Promise<(Buffer | undefined)[]> {
	const rows = new Array<Buffer | undefined>(wanted.length);
	const byShard = new Map<string, number[]>();
	wanted.forEach(([, { id }], i) => {
		const same = byShard.get(id);
		if (same) same.push(i);
		else byShard.set(id, [i]);
	});
	for (const [id, indices] of byShard) {
		const file = await open(rowsFile(folder, id), 'r').catch((error: unknown) => {
			if (errorCode(error) === 'ENOENT') return undefined;
			throw fileError(rowsFile(folder, id), 'read', error);
		});
		if (!file) continue;
		try {
			for (const i of indices) {
				const [key, { position }] = wanted[i]!;
				const record = Buffer.alloc(keyBytes + sumBytes + rowBytes);
				const good = await readRecord(file, record, position);
				if (good && record.toString('hex', 0, keyBytes) === key) rows[i] = record.subarray(keyBytes + sumBytes);
			}
		} finally {
			await file.close();
		}
	}
	return rows;
}

/** Writes rows as a new shard and returns its id. */
export async function writeShard(folder: string, rows: readonly (readonly [key: string, row: Uint8Array])[]): Promise<string> {
	const id = randomBytes(6).toString('hex');
	await writeFileAtomic(rowsFile(folder, id), async (file) => {
		for (const [hex, row] of rows) {
			const key = Buffer.from(hex, 'hex');
			await file.writeFile(Buffer.concat([key, checksum(key, row), row]));
		}
	});
	await writeIndex(
		folder,
		id,
		rows.map(([key], position) => [key, position]),
	);
	return id;
}
