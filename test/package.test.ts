import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const run = promisify(execFile);
const root = fileURLToPath(new URL('..', import.meta.url));

let folder: string;
let main: string;
beforeAll(async () => {
	folder = await mkdtemp(join(tmpdir(), 'package-'));
	// The build is there already: making it again would pull it from under the tests that run beside this one.
	await run('npm', ['pack', '--ignore-scripts', '--pack-destination', folder], { cwd: root });
	const [archive] = (await readdir(folder)).filter((name) => name.endsWith('.tgz'));
	await run('tar', ['-xzf', archive!], { cwd: folder });
	// What an install would put beside it, without downloading it again.
	await symlink(join(root, 'node_modules'), join(folder, 'node_modules'));
	main = join(folder, 'package', 'dist', 'cli', 'main.js');
}, 120_000);
afterAll(() => rm(folder, { recursive: true, force: true }));

describe('the packed package', () => {
	it('holds what a user needs and no more', async () => {
		const names = await readdir(join(folder, 'package'));
		expect(names).toEqual(expect.arrayContaining(['LICENSE', 'NOTICE', 'README.md', 'dist', 'package.json', 'presets']));
		for (const name of ['src', 'test', 'bench', 'node_modules']) expect(names).not.toContain(name);
	});

	it('trains its preset and samples from an empty folder', { timeout: 120_000 }, async () => {
		const cwd = await mkdtemp(join(folder, 'empty-'));
		const set = ['train.max_steps=2', 'sample.steps=2', 'sample.per_label=1'].flatMap((s) => ['--set', s]);
		const trained = await run('node', [main, 'train', 'mnist', ...set], { cwd });
		expect(trained.stdout + trained.stderr).toMatch(/step-00000002\.png/);
		await run('node', [main, 'sample', 'runs/mnist', '--steps', '2', '--labels', '3', '--per-label', '2', '--output', 'three.png'], {
			cwd,
		});
		expect(existsSync(join(cwd, 'three.png'))).toBe(true);
	});

	it('exports its functions', async () => {
		const script = "import * as d from 'diffusionpipe'; console.log(typeof d.trainModel, typeof d.createBuilder, typeof d.sampleToFile)";
		const { stdout } = await run('node', ['--input-type=module', '-e', script], { cwd: join(folder, 'package') });
		expect(stdout.trim()).toBe('function function function');
	});
});
