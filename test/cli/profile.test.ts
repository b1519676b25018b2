/** @file The profile command: what it measures of a small config, what it computes, and what it refuses. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { accelerators } from '../../src/plan/analytic/accelerators.ts';
import { namedJobs } from '../../src/plan/analytic/named-jobs.ts';
import { readProfile } from '../../src/plan/profile/read.ts';
import { runCli } from './context.ts';

/** A U-Net of 8 x 8 latents between the autoencoder and the text encoder of the package. */
const config = `
[model]
type = "UNet2DConditionModel"
sample_size = 8
in_channels = 4
out_channels = 4
block_out_channels = [16, 16]
down_block_types = ["CrossAttnDownBlock2D", "DownBlock2D"]
up_block_types = ["UpBlock2D", "CrossAttnUpBlock2D"]
layers_per_block = 1
attention_head_dim = 2
cross_attention_dim = 96
norm_num_groups = 8

[scheduler]
type = "DDPMScheduler"

[data]
type = "emoji"
size = 32

[vae]
path = "assets/emoji-vae"

[text_encoder]
path = "assets/emoji-clip/text_encoder"
tokenizer = "assets/emoji-clip/tokenizer"

[train]
max_steps = 1
batch_size = 2
ema_decay = 0
`;

let cwd: string;
beforeAll(async () => {
	cwd = await mkdtemp(join(tmpdir(), 'profile-'));
	await writeFile(join(cwd, 'small.toml'), config);
});
afterAll(() => rm(cwd, { recursive: true, force: true }));

describe('diffusionpipe profile', () => {
	it('measures a config with its frozen parts, says what it does, and writes what can be read', async () => {
		const { code, out, err } = await runCli(['profile', 'small.toml', '--repeats', '1', '--out', 'p.json'], { cwd });
		expect(code, err).toBe(0);
		const profile = readProfile(JSON.parse(await readFile(join(cwd, 'p.json'), 'utf8')));
		// No more samples than a step has.
		expect(profile.batchSizes).toEqual([1, 2]);
		expect(profile.name).toBe('small.toml measured');
		const [model] = profile.backbones;
		expect([model!.name, model!.layers[0]!.name, model!.layers.at(-1)!.name]).toEqual(['model', 'noising', 'loss']);
		expect(profile.frozen.map(({ name, after }) => [name, after])).toEqual([
			['vae', []],
			['text_encoder', []],
		]);
		// 16 channels at 32 x 32 pixels, four times the latents.
		expect(profile.frozen[0]!.layers[0]!.outputBytes).toBe(4 * 16 * 32 * 32);
		expect(err).toContain('measured model at 2 samples');
		expect(err).toContain('wrote p.json');
		expect(out).toMatch(/^small\.toml measured: ms at 2 samples/);
		expect(out).toMatch(/^ {2}down_blocks\.0\.attentions\.0 +[\d.]+ +[\d.]+ +[\d.]+ /m);
		expect(out).toMatch(/^trained: [\d.]+ ms forward and backward, .*frozen [\d.]+ ms \(\d+ % of that\)$/m);
	});

	it('computes the same config for an accelerator, at the sizes asked for', async () => {
		const { code, out, err } = await runCli(['profile', 'small.toml', '--accelerator', 'h100', '--batch-sizes', '3,5', '--json'], { cwd });
		expect(code, err).toBe(0);
		const profile = readProfile(JSON.parse(out));
		expect(profile.name).toBe('small.toml on H100');
		expect(profile.batchSizes).toEqual([3, 5]);
		expect(profile.frozen.map(({ name }) => name)).toEqual(['vae', 'text_encoder']);
		const [layer] = profile.backbones[0]!.layers.slice(3);
		// Weights of 16 bits with moments and master weights of 32.
		expect(layer!.optimizerBytes).toBe(6 * layer!.paramBytes);
	});

	it('takes keys to set', async () => {
		const sets = ['vae.path=', 'text_encoder.path=', 'objective.self_conditioning=0.25'].flatMap((set) => ['--set', set]);
		const { out } = await runCli(['profile', 'small.toml', '--accelerator', 'h100', ...sets, '--json'], { cwd });
		const profile = readProfile(JSON.parse(out));
		expect(profile.frozen).toEqual([]);
		expect(profile.backbones[0]!.selfConditioning).toBe(0.25);
	});

	it('computes published jobs in either precision', async () => {
		const of = async (...more: string[]) => {
			const { code, out, err } = await runCli(['profile', 'sd21', '--accelerator', 'A100-80', '--json', ...more], { cwd });
			expect(code, err).toBe(0);
			return readProfile(JSON.parse(out));
		};
		const [mixed, full] = [await of(), await of('--precision', 'float32')];
		expect(mixed.name).toBe('sd21 on A100-80');
		expect(mixed.batchSizes).toEqual([1, 2, 4, 8, 16, 32, 64]);
		expect(full.backbones[0]!.layers[5]!.cutBytes).toBe(2 * mixed.backbones[0]!.layers[5]!.cutBytes);
	});

	it('names every job and accelerator in its help', async () => {
		const { out } = await runCli(['profile', '--help']);
		expect(out).toContain(`  jobs: ${Object.keys(namedJobs).join(', ')}\n`);
		expect(out).toContain(`  accelerators: ${accelerators.map((a) => a.name).join(', ')}\n`);
	});

	it.each<[string, string[], RegExp]>([
		['an accelerator it does not know', ['sd21', '--accelerator', 'H1000'], /accelerator H1000 is not known\n(.*\n)*.*did you mean H100\?/],
		['a job it does not know', ['sd22', '--accelerator', 'H100'], /sd22: there is no such preset or file\n(.*\n)*.*did you mean sd21\?/],
		['sizes that do not ascend', ['sd21', '--batch-sizes', '4,2'], /--batch-sizes: are no batch sizes/],
		['sizes that are no numbers', ['sd21', '--batch-sizes', '1,a'], /--batch-sizes: are no batch sizes/],
		['another precision', ['sd21', '--accelerator', 'H100', '--precision', 'int8'], /--precision: is no precision/],
		['a precision of what is measured', ['sd21', '--precision', 'mixed'], /--precision: says nothing without --accelerator/],
		['a file that is not there', ['no.toml'], /no\.toml: there is no such file/],
	])('refuses %s', async (_, argv, message) => {
		const { code, out, err } = await runCli(['profile', ...argv], { cwd });
		expect([code, out]).toEqual([2, '']);
		expect(err).toMatch(message);
	});

	it('refuses an autoencoder whose latents the model does not take', async () => {
		const { code, err } = await runCli(['profile', 'small.toml', '--accelerator', 'H100', '--set', 'model.in_channels=3'], { cwd });
		expect(code).toBe(2);
		expect(err).toMatch(/vae\.path: makes other latents than the model takes\n {2}expected: latents \[3, 8, 8\]\n {2}found: 4 channels/);
	});
});
