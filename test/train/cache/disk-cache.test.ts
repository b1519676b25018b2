import { fork } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { open, readdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { type DiskCacheOptions, openDiskCache } from '../../../src/train/cache/disk-cache.ts';

const root = mkdtempSync(join(tmpdir(), 'disk-cache-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

const part = { name: 'vae', digest: 'ab'.repeat(32), shape: [2, 3] };
const keyOf = (i: number) => createHash('sha256').update(String(i)).digest('hex');
const rowOf = (i: number) => Float32Array.from({ length: 6 }, (_, k) => i + k / 3);
const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i);
const recordBytes = 32 + 16 + 24;

/** A folder for one test, and what opens its cache and asks for rows [from, to), counting those computed. */
function place(name: string) {
	const dir = join(root, name);
	const folder = join(dir, 'vae-abababababababab-float32-2x3');
	const ask = async (from: number, to: number, options: Partial<DiskCacheOptions> = {}) => {
		const cache = await openDiskCache(part, { dir, dtype: 'float32', ...options });
		const computed: number[] = [];
		const ids = range(from, to);
		const rows = await cache.rows(ids.map(keyOf), async (places) => {
			computed.push(...places.map((p) => ids[p]!));
			return places.map((p) => rowOf(ids[p]!));
		});
		await cache.flush();
		return { rows, computed, counts: cache.counts() };
	};
	const files = async (ending: string) => (await readdir(folder)).filter((n) => n.endsWith(ending)).map((n) => join(folder, n));
	return { dir, folder, ask, files };
}

describe('openDiskCache', () => {
	it('gives rows as they were computed, to the run that computed them and to later ones', async () => {
		const { ask, files } = place('plain');
		const cold = await ask(0, 5);
		expect([cold.computed, cold.counts]).toEqual([range(0, 5), { read: 0, computed: 5, damaged: 0 }]);
		const warm = await ask(2, 8);
		expect([warm.computed, warm.counts]).toEqual([range(5, 8), { read: 3, computed: 3, damaged: 0 }]);
		expect(warm.rows).toEqual(range(2, 8).map(rowOf));
		expect((await files('.rows')).length).toBe(2);
	});

	it('computes a key asked for twice once, and gives what is not written yet', async () => {
		const { dir } = place('twice');
		const cache = await openDiskCache(part, { dir, dtype: 'float32' });
		const asked: number[][] = [];
		const compute = async (places: readonly number[]) => {
			asked.push([...places]);
			return places.map(() => rowOf(7));
		};
		await cache.rows([keyOf(1), keyOf(1)], compute);
		expect((await cache.rows([keyOf(1)], compute))[0]).toEqual(rowOf(7));
		expect(asked).toEqual([[0]]);
	});

	it('keeps parts, sizes and element types apart, and rounds float16 rows at once', async () => {
		const { dir, ask } = place('apart');
		await ask(0, 2);
		for (const other of [
			{ ...part, digest: 'cd'.repeat(32) },
			{ ...part, shape: [6] },
		]) {
			const cache = await openDiskCache(other, { dir, dtype: 'float32' });
			await cache.rows([keyOf(0)], async () => [rowOf(0)]);
			expect(cache.counts()).toMatchObject({ read: 0, computed: 1 });
		}
		const half = await ask(0, 2, { dtype: 'float16' });
		expect(half.computed).toEqual([0, 1]);
		expect(half.rows[1]).not.toEqual(rowOf(1));
		half.rows[1]!.forEach((v, k) => {
			expect(Math.abs(v - rowOf(1)[k]!)).toBeLessThan(1e-3);
		});
		expect((await ask(0, 2, { dtype: 'float16' })).rows).toEqual(half.rows);
	});

	it('computes a row again of which a byte was changed, and that one alone', async () => {
		const { ask, files } = place('flipped');
		await ask(0, 5);
		const [shard] = await files('.rows');
		const file = await open(shard!, 'r+');
		const byte = Buffer.alloc(1);
		await file.read(byte, 0, 1, 3 * recordBytes + 60);
		await file.write(Buffer.of(byte[0]! ^ 1), 0, 1, 3 * recordBytes + 60);
		await file.close();
		const found = await ask(0, 5);
		expect([found.computed, found.counts]).toEqual([[3], { read: 4, computed: 1, damaged: 1 }]);
		expect(found.rows).toEqual(range(0, 5).map(rowOf));
		expect((await ask(0, 5)).counts).toEqual({ read: 5, computed: 0, damaged: 0 });
	});

	it('keeps the whole rows of a shard that was cut off', async () => {
		const { ask, files } = place('cut');
		await ask(0, 5);
		await truncate((await files('.rows'))[0]!, 2 * recordBytes + 5);
		expect((await ask(0, 5)).counts).toEqual({ read: 2, computed: 3, damaged: 3 });
		expect((await ask(0, 5)).counts).toEqual({ read: 5, computed: 0, damaged: 0 });
	});

	it('makes an index again that is missing, damaged or another’s', async () => {
		const { ask, files } = place('index');
		await ask(0, 3);
		await ask(3, 6);
		const [first, second] = await files('.index');
		await rm(first!);
		expect((await ask(0, 6)).counts).toEqual({ read: 6, computed: 0, damaged: 0 });
		await writeFile(second!, 'not an index');
		expect((await ask(0, 6)).counts).toEqual({ read: 6, computed: 0, damaged: 0 });
		// An index that says other rows than the shard has: each is verified by its own key.
		await writeFile(first!, await readFile(second!));
		const found = await ask(0, 6);
		expect(found.rows).toEqual(range(0, 6).map(rowOf));
	});

	it('computes again what was in a shard that is gone', async () => {
		const { ask, files, dir } = place('gone');
		await ask(0, 2);
		const cache = await openDiskCache(part, { dir, dtype: 'float32' });
		await rm((await files('.rows'))[0]!);
		expect((await cache.rows([keyOf(0)], async () => [rowOf(0)]))[0]).toEqual(rowOf(0));
		expect(cache.counts()).toEqual({ read: 0, computed: 1, damaged: 1 });
	});

	it('writes a shard when enough rows or enough time have come together', async () => {
		const { dir, files } = place('flush');
		let now = 0;
		const cache = await openDiskCache(part, { dir, dtype: 'float32', shardBytes: 3 * 24, flushMs: 1000, clock: () => now });
		const add = (i: number) => cache.rows([keyOf(i)], async () => [rowOf(i)]);
		for (const [i, shards] of [0, 0, 1, 1].entries()) {
			await add(i);
			expect((await files('.rows')).length, `after row ${i}`).toBe(shards);
		}
		now = 2000;
		await add(4);
		const sizes = await Promise.all((await files('.rows')).map(async (f) => (await stat(f)).size / recordBytes));
		expect(sizes.sort()).toEqual([2, 3]);
	});

	it('goes on without keeping rows when they cannot be written, and says so once', async () => {
		const { dir, folder } = place('full');
		const problems: string[] = [];
		const cache = await openDiskCache(part, { dir, dtype: 'float32', onProblem: (text) => problems.push(text) });
		await rm(folder, { recursive: true });
		await writeFile(folder, 'in the way');
		for (const i of [0, 1]) {
			expect((await cache.rows([keyOf(i)], async () => [rowOf(i)]))[0]).toEqual(rowOf(i));
			await cache.flush();
		}
		expect(problems.length).toBe(1);
		await expect(openDiskCache(part, { dir, dtype: 'float32' })).rejects.toThrow(/read the cache|ENOTDIR|EEXIST|not a folder/i);
	});

	it('is shared by two processes that write at the same time', async () => {
		const { dir, ask } = place('both');
		const child = join(import.meta.dirname, 'write-rows.mjs');
		const processes = [0, 1].map((n) => fork(child, [dir, String(n)], { execArgv: [] }));
		const codes = await Promise.all(processes.map(async (p) => (await once(p, 'exit'))[0]));
		expect(codes).toEqual([0, 0]);
		const { counts, rows } = await ask(0, 60);
		expect(counts).toEqual({ read: 60, computed: 0, damaged: 0 });
		expect(rows).toEqual(range(0, 60).map(rowOf));
	});
});
