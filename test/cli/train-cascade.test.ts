/** @file The train command for a config of two models, around a trainer that does no work. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { runProgram } from '../../src/cli/program.ts';
import type { CascadeConfig } from '../../src/train/cascade/config.ts';
import type { CascadeOptions, CascadeResult } from '../../src/train/cascade/events.ts';
import { fakeContext } from './context.ts';

const trainCascade = vi.hoisted(() => vi.fn<(config: CascadeConfig, options: CascadeOptions) => Promise<CascadeResult>>());
vi.mock('../../src/train/cascade/trainer.ts', () => ({ trainCascade, lowResolution: 'low_resolution' }));

const text = `
output_dir = "runs/c"
[model]
type = "UNet2DModel"
sample_size = 16
[scheduler]
type = "DDPMScheduler"
[data]
type = "emoji"
size = 64
[train]
max_steps = 4
batch_size = 4
[parallel]
pipeline_stages = 2
[super_resolution.model]
type = "UNet2DModel"
sample_size = 64
[super_resolution.optimizer]
lr = 2e-3
`;

let cwd: string;
beforeAll(async () => {
	cwd = await mkdtemp(join(tmpdir(), 'train-cascade-'));
	await writeFile(join(cwd, 'cascade.toml'), text);
});
afterAll(() => rm(cwd, { recursive: true }));

async function run(...argv: string[]) {
	const context = fakeContext({ cwd });
	trainCascade.mockImplementation(async (config, { onEvent }) => {
		const losses = { base: 0.5, super_resolution: 0.25 };
		onEvent?.({ kind: 'step', step: 4, maxSteps: 4, losses, gradNorms: losses, stepMs: 10 });
		const pipeline = join(config.base.output_dir, 'pipeline');
		return { step: 4, finished: true, losses, seconds: 2, skippedFiles: 0, pipeline, samples: ['step.png'] };
	});
	const code = await runProgram(['train', 'cascade.toml', ...argv], context);
	return { code, config: trainCascade.mock.lastCall?.[0], out: context.out(), err: context.err() };
}

describe('train with two models', () => {
	it('gives both configs, as changed on the command line, and tells both losses', async () => {
		const { code, config, out, err } = await run(
			'--set',
			'super_resolution.optimizer.lr=5e-3',
			'--set',
			'train.max_steps=9',
			'--output-dir',
			'x',
		);
		expect(code).toBe(0);
		expect(config!.base.output_dir).toBe(relative(process.cwd(), join(cwd, 'x')));
		expect(config!.base.optimizer.lr).toBe(1e-4);
		expect(config!.super_resolution.optimizer.lr).toBe(5e-3);
		expect(config!.super_resolution.train.max_steps).toBe(9);
		expect(err).toMatch(/^training a cascade, UNet2DModel and UNet2DModel, on emoji: 9 steps of 4 images, 2 devices, into /);
		expect(err).toMatch(/step 4\/4 {2}base loss 0.5000 {2}super_resolution loss 0.2500/);
		expect(out).toMatch(/^done: 4 steps, last losses 0.5000 and 0.2500 \(2/);
	});

	it('resumes', async () => {
		await run('--resume');
		expect(trainCascade.mock.lastCall![1]).toMatchObject({ resume: true, overwrite: false });
	});

	it('resumes from a checkpoint of one model', async () => {
		const path = join('runs', 'c', 'checkpoints', 'base', 'step-00000002');
		await run('--resume', path, '--allow-config-change');
		expect(trainCascade.mock.lastCall![1]).toMatchObject({ resume: relative(process.cwd(), join(cwd, path)), allowConfigChange: true });
	});

	it('shows the whole config, the stages of both models and the order of their work', async () => {
		const tiny = ['in_channels=3', 'out_channels=3', 'block_out_channels=[8]', 'norm_num_groups=4', 'layers_per_block=1'];
		const blocks = ['down_block_types=["DownBlock2D"]', 'up_block_types=["UpBlock2D"]', 'add_attention=false'];
		const sets = ['model', 'super_resolution.model'].flatMap((table) => [...tiny, ...blocks].map((key) => `${table}.${key}`));
		sets.push('model.sample_size=4', 'super_resolution.model.sample_size=8', 'train.gradient_accumulation_steps=2');
		const before = trainCascade.mock.calls.length;
		const { code, out, err } = await run('--dry-run', ...sets.flatMap((set) => ['--set', set]));
		expect(err).toMatch(/measuring the layers/);
		expect(code).toBe(0);
		expect(trainCascade.mock.calls.length).toBe(before);
		expect(out).toMatch(/\[super_resolution\.optimizer\]\ntype = "adamw"\nlr = 0\.002/);
		expect(out).toMatch(/parameters of base, .* parameters of super_resolution\n2 devices, 4 pipeline stages\n {2}stage 0: base\.noising/);
		expect(out).toMatch(/ms per step predicted, bubbles \d+\.\d %/);
		expect(out).toMatch(/rank 0 .*0F0.*\nrank 1 .*2F0/);
		// What it prints is a config again.
		await writeFile(join(cwd, 'again.toml'), out.slice(0, out.indexOf('\n\n', out.indexOf('[super_resolution.optimizer]'))));
		const { readCascadeConfig } = await import('../../src/train/cascade/config.ts');
		const { parse } = await import('smol-toml');
		const again = readCascadeConfig(parse(await readFile(join(cwd, 'again.toml'), 'utf8')));
		expect(again.super_resolution.optimizer.lr).toBe(2e-3);
	});

	it('is planned for other devices, too', async () => {
		await writeFile(
			join(cwd, 'small.toml'),
			text.replaceAll(
				'type = "UNet2DModel"',
				'type = "UNet2DModel"\nblock_out_channels = [32]\ndown_block_types = ["DownBlock2D"]\nup_block_types = ["UpBlock2D"]',
			),
		);
		const context = fakeContext({ cwd });
		expect(await runProgram(['plan', 'small.toml', '--accelerator', 'A100-80', '--devices', '2', '--stages', '2'], context)).toBe(0);
		expect(context.out()).toMatch(/one pipeline of 2 stages, .* bidirectional/);
		expect(context.out()).toMatch(/0 {2}base .*\n.*\n +2 {2}super_resolution +1 /);
	});
});
