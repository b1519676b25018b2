import { existsSync } from 'node:fs';
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { makeFolder } from '../../src/io/make-folder.ts';
import { openDiskCache } from '../../src/train/cache/disk-cache.ts';
import { prepareRunFolder, runFolder } from '../../src/train/run-folder.ts';

let root: string;
beforeAll(async () => {
	root = await mkdtemp(join(tmpdir(), 'make-folder-'));
});
afterAll(() => rm(root, { recursive: true }));

it('makes a folder and those above it, and leaves one that is there', async () => {
	for (const path of [join(root, 'a', 'b', 'c'), join(root, 'a', 'b'), '/']) {
		await Promise.all([makeFolder(path), makeFolder(path)]);
		expect((await stat(path)).isDirectory()).toBe(true);
	}
	await writeFile(join(root, 'file'), '');
	await expect(makeFolder(join(root, 'file'))).rejects.toThrow('EEXIST');
	await expect(makeFolder(join(root, 'file', 'below'))).rejects.toThrow('ENOTDIR');
});

it.runIf(existsSync('/proc/self'))('ends where no folder can be made, with an error that names it', async () => {
	const prepared = prepareRunFolder(runFolder('/proc/none/run'), { resume: false, overwrite: false });
	await expect(prepared).rejects.toThrow('/proc/none/run: cannot make the folder of the run');
	const cache = openDiskCache({ name: 'vae', digest: '0'.repeat(64), shape: [2] }, { dir: '/proc/none', dtype: 'float32' });
	await expect(cache).rejects.toThrow(/\/proc\/none\/vae-.*: cannot make the folder of the cache/);
});
