/** @file The train command around a trainer that does no work: what it is asked, what is shown, how it ends. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { runProgram } from '../../src/cli/program.ts';
import { DiffusionPipeError } from '../../src/core/errors.ts';
import type { TrainConfig } from '../../src/train/config.ts';
import type { TrainEvent, TrainResult } from '../../src/train/events.ts';
import type { TrainOptions } from '../../src/train/trainer.ts';
import { fakeContext } from './context.ts';

const trainModel = vi.hoisted(() => vi.fn<(config: TrainConfig, options: TrainOptions) => Promise<TrainResult>>());
vi.mock('../../src/train/trainer.ts', () => ({ trainModel }));

const result: TrainResult = {
	step: 40,
	finished: true,
	loss: 0.25,
	seconds: 12,
	imagesPerSecond: 100,
	skippedFiles: 0,
	checkpoint: 'runs/a/checkpoints/step-00000040',
	pipeline: 'runs/a/pipeline',
	samples: ['runs/a/samples/step-00000020.png', 'runs/a/samples/step-00000040.png'],
};
const stepEvent: TrainEvent = {
	kind: 'step',
	step: 1,
	maxSteps: 40,
	loss: Number.NaN,
	lr: 1e-3,
	gradNorm: 1,
	stepMs: 9,
	imagesPerSecond: 100,
	secondsLeft: 3,
};
const config = [
	'output_dir = "runs/a"',
	'[model]',
	'type = "DiTTransformer2DModel"',
	'num_attention_heads = 2',
	'attention_head_dim = 8',
	'num_layers = 2',
	'sample_size = 8',
	'in_channels = 1',
	'[scheduler]',
	'type = "DDPMScheduler"',
	'[data]',
	'type = "mnist"',
	'[train]',
	'max_steps = 40',
	'batch_size = 8',
	'gradient_accumulation_steps = 2',
	'[parallel]',
	'pipeline_stages = 2',
	'partition_method = "manual"',
	'partition_split = [3]',
	'',
].join('\n');

let cwd: string;
beforeAll(async () => {
	cwd = await mkdtemp(join(tmpdir(), 'train-'));
	await writeFile(join(cwd, 'a.toml'), config);
});
afterAll(() => rm(cwd, { recursive: true }));
beforeEach(() => {
	trainModel.mockReset();
	trainModel.mockImplementation(async (_, { onEvent }) => {
		onEvent?.(stepEvent);
		return result;
	});
});

async function run(...argv: string[]) {
	const context = fakeContext({ cwd });
	const code = await runProgram(['train', 'a.toml', ...argv], context);
	const [given, options] = trainModel.mock.lastCall ?? [];
	return { code, context, given, options, out: context.out(), err: context.err() };
}

describe('train', () => {
	it('gives the trainer the config as changed on the command line, with folders from the working folder', async () => {
		const { given } = await run('--set', 'train.max_steps=7', '--output-dir', '007');
		expect(given!.train).toMatchObject({ max_steps: 7, batch_size: 8 });
		expect(given!.output_dir).toBe(relative(process.cwd(), join(cwd, '007')));
	});

	it.each([
		[[], { resume: undefined, allowConfigChange: false, overwrite: false }],
		[['--resume'], { resume: true, allowConfigChange: false, overwrite: false }],
		[['--resume', '--allow-config-change'], { resume: true, allowConfigChange: true, overwrite: false }],
		[['--overwrite'], { resume: undefined, allowConfigChange: false, overwrite: true }],
	])('passes %j on', async (argv, wanted) => {
		const { options } = await run(...argv);
		const { resume, allowConfigChange, overwrite } = options!;
		expect({ resume, allowConfigChange, overwrite }).toEqual(wanted);
		expect(options!.samples).toBeTypeOf('function');
	});

	it('takes a checkpoint to resume from relative to the working folder', async () => {
		const { options } = await run('--resume', 'runs/a/checkpoints/step-00000020');
		expect(options!.resume).toBe(relative(process.cwd(), join(cwd, 'runs/a/checkpoints/step-00000020')));
	});

	it('says what it does before any work', async () => {
		let before = '';
		const context = fakeContext({ cwd });
		trainModel.mockImplementation(async () => {
			before = context.err();
			return result;
		});
		await runProgram(['train', 'a.toml'], context);
		expect(before).toMatch(/^training DiTTransformer2DModel on mnist: 40 steps of 8 images, 2 devices, into /);
		expect(context.finishing()).toBe('finishing this step and saving');
	});

	it('ends with the pictures and what to do next', async () => {
		const { code, out, given } = await run('--set', 'optimizer.lr=1e-3', '--set', 'train.max_steps=40');
		expect(code).toBe(0);
		expect(out.trimEnd().split('\n')).toEqual([
			'done: 40 steps, last loss 0.2500 (12 s, 100 images/s)',
			'pictures: runs/a/samples/step-00000040.png and 1 earlier',
			'pipeline: runs/a/pipeline',
			`next: diffusionpipe sample ${given!.output_dir}`,
			'  or: diffusionpipe train a.toml --set optimizer.lr=1e-3 --resume --set train.max_steps=80',
		]);
	});

	it('stopped by an interrupt, says how to go on and ends with its code', async () => {
		const context = fakeContext({ cwd });
		trainModel.mockImplementation(async (_, { signal }) => {
			context.interrupt('SIGTERM');
			expect(signal!.aborted).toBe(true);
			return { ...result, step: 12, finished: false, pipeline: undefined, samples: [], skippedFiles: 2 };
		});
		expect(await runProgram(['train', 'a.toml', '--output-dir', 'my run'], context)).toBe(143);
		expect(context.out().trimEnd().split('\n')).toEqual([
			'stopped after step 12 of 40 (12 s, 100 images/s)',
			'2 data files could not be used',
			'saved: runs/a/checkpoints/step-00000040',
			"next: diffusionpipe train a.toml --output-dir 'my run' --resume",
		]);
	});

	it('that finished all the same after an interrupt is done', async () => {
		const context = fakeContext({ cwd });
		trainModel.mockImplementation(async () => {
			context.interrupt('SIGINT');
			return result;
		});
		expect(await runProgram(['train', 'a.toml'], context)).toBe(0);
	});

	it('writes events as JSON lines with --json, progress going on beside it', async () => {
		const { out, err } = await run('--json');
		expect(
			out
				.trimEnd()
				.split('\n')
				.map((line) => JSON.parse(line)),
		).toEqual([{ ...stepEvent, loss: 'NaN' }]);
		expect(err).toContain('step  1/40  loss NaN');
	});

	it('shows no progress with --quiet', async () => {
		const { out, err } = await run('-q');
		expect(err).toBe('');
		expect(out).toContain('done: 40 steps');
	});

	it('ends the line of progress before an error', async () => {
		const context = fakeContext({ cwd, isTTY: true });
		trainModel.mockImplementation(async (_, { onEvent }) => {
			onEvent?.(stepEvent);
			throw new DiffusionPipeError('engine', 'the loss is no longer a finite number', { place: 'step 2' });
		});
		expect(await runProgram(['train', 'a.toml'], context)).toBe(1);
		expect(context.err()).toContain('left\u001b[K\nerror: step 2: the loss is no longer');
	});
});

describe('train --dry-run', () => {
	it('prints the whole config and the plan, and trains nothing', async () => {
		const { code, out } = await run('--dry-run', '--set', 'parallel.data_parallel=2');
		expect(code).toBe(0);
		expect(trainModel).not.toHaveBeenCalled();
		expect(out).toContain('gradient_clipping = 1');
		expect(out).toContain(
			'4 devices, 2 pipeline stages, 2 copies of the pipeline\n  stage 0: noising ... transformer_blocks.0 (3 layers)\n  stage 1: transformer_blocks.1 ... loss (3 layers)',
		);
		expect(out).toContain('rank 0 0F0 0F1     0B0     0B1\nrank 1     1F0 1B0 1F1 1B1\n');
	});

	it('plans a filled run with its frozen work', async () => {
		const { out } = await run(
			...['--dry-run', '--json', '--set', 'frozen.cache=fill', '--set', 'vae.path=assets/emoji-vae'],
			...['--set', 'model.in_channels=4', '--set', 'model.out_channels=4'],
		);
		const { plan } = JSON.parse(out);
		expect(plan.program).toContain('<- vae.x[');
		expect(plan.predicted.iterationMs).toBeGreaterThan(0);
		expect(plan.stages).toHaveLength(2);
	});

	it('shows both kinds of step of a self-conditioned run', async () => {
		const sets = [
			'objective.self_conditioning=0.25',
			'parallel.partition_method=time',
			'parallel.partition_split=[]',
			'model.num_layers=1',
		];
		const argv = sets.flatMap((set) => ['--set', set]);
		const { code, out } = await run('--dry-run', ...argv);
		expect(code).toBe(0);
		expect(out).toContain('schedule with self-conditioning, which 0.25 of the steps have (stages 0 to 1 are the sweep):\nslot ');
		expect(out).toMatch(/rank 1 +1F0 .*3B1\n/);
		expect(out).toMatch(
			/[\d.]+ ms per step \([\d.]+ ms without self-conditioning, [\d.]+ ms with self-conditioning at probability 0.25\) predicted/,
		);
		const { plan } = JSON.parse((await run('--dry-run', '--json', ...argv)).out);
		expect(plan.predicted.selfConditioning).toMatchObject({ probability: 0.25 });
		expect(plan.predicted.selfConditioning.iterationMs).toBeGreaterThan(plan.predicted.iterationMs);
		expect(plan.program).toContain('iteration with a sweep ahead');
	}, 60_000);

	it('gives one JSON document', async () => {
		const { out } = await run('--dry-run', '--json');
		const { config, plan } = JSON.parse(out);
		expect(config.optimizer.lr).toBe(1e-4);
		expect(plan).toMatchObject({ devices: 2, cuts: [3], stages: [{ ms: 0 }, { ms: 0 }] });
		expect(plan.program).toContain('run 1B1');
		for (const { peakBytes, fixedBytes } of plan.memory) expect(peakBytes).toBeGreaterThan(fixedBytes);
		expect(plan.memory).toHaveLength(2);
	});

	it.each([
		['model.num_layer=3', 'num_layer'],
		['scheduler.type=DDPM', 'unknown sampler'],
		['parallel.pipeline_schedule=1f2b', '1f2b'],
	])('refuses %s', async (set, message) => {
		const { code, err } = await run('--dry-run', '--set', set);
		expect(code).toBe(2);
		expect(err).toContain(message);
	});
});
