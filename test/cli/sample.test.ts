/** @file The sample command around a generator that does no work. */
import { tmpdir } from 'node:os';
import { basename, join, relative } from 'node:path';
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { runProgram } from '../../src/cli/program.ts';
import { DiffusionPipeError } from '../../src/core/errors.ts';
import type { SampleOptions } from '../../src/generate/index.ts';
import { fakeContext } from './context.ts';

const sampleToFile = vi.hoisted(() => vi.fn<(options: SampleOptions) => Promise<{ output: string; images: number; seconds: number }>>());
vi.mock('../../src/generate/index.ts', () => ({ sampleToFile }));

const done = { output: 'a.png', images: 4, seconds: 0.5 };
beforeEach(() => {
	sampleToFile.mockReset();
	sampleToFile.mockImplementation(async ({ onEvent }) => {
		onEvent?.({ kind: 'note', text: 'sampling 4 images' });
		for (let step = 1; step <= 3; step++) onEvent?.({ kind: 'step', step, steps: 3 });
		return done;
	});
});

const here = (path: string) => relative(process.cwd(), join(tmpdir(), path));

async function run(argv: readonly string[], change = {}) {
	const context = fakeContext(change);
	const code = await runProgram(['sample', './runs/a', ...argv], context);
	return { code, out: context.out(), err: context.err(), options: sampleToFile.mock.lastCall?.[0] };
}

describe('sample', () => {
	it('leaves what is not given to the generator', async () => {
		const { code, options, out } = await run([]);
		expect(code).toBe(0);
		expect(Object.keys(options!).sort()).toEqual(['folder', 'onEvent', 'signal']);
		expect(options!.folder).toBe(here('runs/a'));
		expect(out).toBe('4 pictures in 500 ms: a.png\n');
	});

	it('passes on every option', async () => {
		const argv =
			'--labels 3,lemon,08 --steps 20 --guidance-scale 4.5 --seed 0 --per-label 2 --columns 5 --devices 2 --output out/x.png --scheduler DDIMScheduler';
		const { options } = await run(argv.split(' '));
		expect(options).toMatchObject({
			labels: [3, 'lemon', 8],
			steps: 20,
			guidanceScale: 4.5,
			seed: 0,
			perLabel: 2,
			columns: 5,
			devices: 2,
			output: here('out/x.png'),
			scheduler: 'DDIMScheduler',
		});
	});

	it('passes on what is asked for in words and pictures', async () => {
		const argv = [
			...['--prompt', 'a red fox', '--prompt', '1984', '--negative-prompt', 'blurred', '--image', 'in/fox.jpg', '--strength', '0.4'],
			...['--height', '512', '--width', '640', '--controlnet', './edges', '--control-image', 'edges.png', '--control-scale', '0.7'],
		];
		const { code, options } = await run(argv);
		expect(code).toBe(0);
		expect(options).toMatchObject({
			prompts: ['a red fox', '1984'],
			negativePrompt: 'blurred',
			image: here('in/fox.jpg'),
			strength: 0.4,
			height: 512,
			width: 640,
			controlNet: here('edges'),
			controlImage: here('edges.png'),
			controlScale: 0.7,
		});
	});

	it('takes a name of the hub as it is, and a path wherever its first part is a folder', async () => {
		const context = fakeContext({ cwd: join(tmpdir(), '..') });
		await runProgram(['sample', 'owner-of-none/model', '--controlnet', 'owner-of-none/edges'], context);
		expect(sampleToFile.mock.lastCall![0]).toMatchObject({ folder: 'owner-of-none/model', controlNet: 'owner-of-none/edges' });
		await runProgram(['sample', `${basename(tmpdir())}/model`], context);
		expect(sampleToFile.mock.lastCall![0].folder).toBe(here('model'));
	});

	it('shows how much of a model has come', async () => {
		sampleToFile.mockImplementation(async ({ onEvent }) => {
			onEvent?.({ kind: 'fetch', bytes: 1e9, total: 7e9 });
			onEvent?.({ kind: 'note', text: 'sampling' });
			return done;
		});
		expect((await run([], { isTTY: true })).err).toMatch(/\rfetched 1\.0 GB of 7\.0 GB.*\nsampling\n/s);
		expect((await run([])).err).not.toContain('fetched');
	});

	it('takes a single label, and names with spaces', async () => {
		expect((await run(['--labels', '7'])).options!.labels).toEqual([7]);
		expect((await run(['--labels', 'Food & Drink, Objects,'])).options!.labels).toEqual(['Food & Drink', 'Objects']);
	});

	it('counts steps on a terminal only', async () => {
		expect((await run([])).err).toBe(`opening ${here('runs/a')}\nsampling 4 images\n`);
		expect((await run([], { isTTY: true })).err).toMatch(/images\n\rstep 1\/3.*\rstep 3\/3.*\n$/s);
		expect((await run(['-q'], { isTTY: true })).err).toBe('');
	});

	it('gives one JSON document', async () => {
		expect(JSON.parse((await run(['--json'])).out)).toEqual(done);
	});

	it('stops at an interrupt without an error', async () => {
		const context = fakeContext();
		sampleToFile.mockImplementation(async () => {
			context.interrupt('SIGINT');
			throw new DiffusionPipeError('engine', 'sampling was stopped', { place: 'step 1 of 3' });
		});
		expect(await runProgram(['sample', 'runs/a'], context)).toBe(130);
		expect(context.err()).toContain('stopped: no picture was written');
		expect(context.err()).not.toContain('error');
	});

	it('reports other errors', async () => {
		sampleToFile.mockRejectedValue(new DiffusionPipeError('input', 'holds nothing to sample from', { place: 'runs/a' }));
		const { code, err } = await run([]);
		expect(code).toBe(2);
		expect(err).toContain('error: runs/a: holds nothing to sample from');
	});
});
