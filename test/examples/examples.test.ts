import { execFile } from 'node:child_process';
import { mkdir, readdir, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { tinyData } from '../helpers/tiny-run.ts';

const run = promisify(execFile);
const root = fileURLToPath(new URL('../../', import.meta.url));
const examples = join(root, 'examples');

let tiny: Awaited<ReturnType<typeof tinyData>>;
beforeAll(async () => {
	tiny = await tinyData(20);
	// The examples import the package by its name, as users do.
	await mkdir(join(tiny.root, 'node_modules'));
	await symlink(root, join(tiny.root, 'node_modules', 'diffusionpipe'));
});
afterAll(() => tiny.remove());

/** Runs an example from a copy in the temporary folder, so that what it writes lands there. */
async function example(name: string, ...args: string[]): Promise<string> {
	const copy = join(tiny.root, name);
	await symlink(join(examples, name), copy);
	const { stdout } = await run('node', ['--preserve-symlinks-main', '--preserve-symlinks', copy, ...args], { cwd: tiny.root });
	return stdout;
}

describe('examples', () => {
	it('graph.mjs writes forward and backward as ONNX files', async () => {
		expect(await example('graph.mjs')).toMatch(/grad\.weight[\s\S]*kept between forward and backward: /);
		expect(await readdir(tiny.root)).toEqual(expect.arrayContaining(['layer-forward.onnx', 'layer-backward.onnx']));
	});

	it('train-folder.mjs trains on a folder and draws samples', async () => {
		const said = await example('train-folder.mjs', tiny.data, join(tiny.root, 'run'), '4');
		expect(said).toMatch(/stage: noising[\s\S]*step 4: loss[\s\S]*trained 4 steps[\s\S]*more samples in .*\.png/);
	});

	it('cascade.mjs trains two models at once and draws with both', async () => {
		const said = await example('cascade.mjs', join(tiny.root, 'cascade'), '2');
		expect(said).toMatch(
			/stage: super_resolution[\s\S]*step 2: base [\s\S]*trained 2 steps[\s\S]*drew 2 x 3 x 16 x 16 and 2 x 3 x 64 x 64/,
		);
	});

	it('every example is run here', async () => {
		expect((await readdir(examples)).sort()).toEqual(['cascade.mjs', 'graph.mjs', 'train-folder.mjs']);
	});
});
