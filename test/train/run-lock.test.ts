import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { readTrainConfig } from '../../src/train/config.ts';
import { lockName, lockRunFolder } from '../../src/train/run-lock.ts';
import { trainModel } from '../../src/train/trainer.ts';
import { tinyConfig, tinyData } from '../helpers/tiny-run.ts';

let root: string;
beforeAll(async () => {
	root = await mkdtemp(join(tmpdir(), 'run-lock-'));
});
afterAll(() => rm(root, { recursive: true }));

it('refuses a second training into a folder, by name, until the first has ended', async () => {
	const tiny = await tinyData();
	try {
		const folder = join(tiny.root, 'run');
		const config = readTrainConfig(tinyConfig(tiny.data, folder, { train: { max_steps: 2 } }));
		let second: Promise<unknown> | undefined;
		const tryAgain = () => {
			second = expect(trainModel(config, { resume: true })).rejects.toThrow(
				`${folder}: is being trained into already\n  found: process ${process.pid} of this host`,
			);
		};
		const first = await trainModel(config, { onEvent: (e) => void (e.kind === 'plan' && tryAgain()) });
		await second!;
		expect(first).toMatchObject({ finished: true });
		expect(existsSync(join(folder, lockName))).toBe(false);
		await trainModel(config, { resume: true });
	} finally {
		await tiny.remove();
	}
});

it('takes over the lock of a process that is gone, or of one whose number another has by now, or that is cut short', async () => {
	const gone = spawnSync('node', ['-e', '']).pid;
	const since = new Date().toISOString();
	const stale = [{ pid: gone, host: hostname(), start: '', since }].map((holder) => JSON.stringify(holder));
	if (existsSync('/proc/self/stat')) stale.push(JSON.stringify({ pid: process.pid, host: hostname(), start: '1', since }));
	for (const text of [...stale, '', '{"pid": 1']) {
		await writeFile(join(root, lockName), text);
		const unlock = await lockRunFolder(root);
		expect(JSON.parse(await readFile(join(root, lockName), 'utf8'))).toMatchObject({ pid: process.pid });
		unlock();
		expect(existsSync(join(root, lockName))).toBe(false);
	}
});

it('lets one of several in that find the same old lock', async () => {
	await writeFile(join(root, lockName), '');
	const tries = await Promise.allSettled([1, 2, 3].map(() => lockRunFolder(root)));
	const taken = tries.flatMap((each) => (each.status === 'fulfilled' ? [each.value] : []));
	expect(taken).toHaveLength(1);
	taken[0]!();
});

it('leaves the lock of another host, and says which file to remove', async () => {
	await writeFile(join(root, lockName), JSON.stringify({ pid: 1, host: 'elsewhere', start: '', since: 'yesterday' }));
	await expect(lockRunFolder(root)).rejects.toThrow(
		new RegExp(`process 1 of elsewhere, since yesterday[^]*remove ${join(root, lockName)}`),
	);
	await rm(join(root, lockName));
});

it('gives the lock back when the process ends at once, as by a second Ctrl-C', async () => {
	const module = new URL('../../dist/train/run-lock.js', import.meta.url).href;
	const code = `const { lockRunFolder } = await import(${JSON.stringify(module)}); await lockRunFolder(${JSON.stringify(root)});`;
	const child = spawnSync('node', ['--input-type=module', '-e', `${code} console.log(1); process.exit(130)`], { encoding: 'utf8' });
	expect([child.status, child.stdout.trim()]).toEqual([130, '1']);
	expect(existsSync(join(root, lockName))).toBe(false);
});
