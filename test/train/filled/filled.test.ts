/** @file Runs with `[frozen] cache = "fill"`: the losses of runs that encode inline, also when stopped and resumed. */
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { readPlan } from '../../../src/plan/plan-json.ts';
import { readTrainConfig } from '../../../src/train/config.ts';
import { trainModel } from '../../../src/train/trainer.ts';
import { readLosses } from '../../helpers/tiny-run.ts';

const root = mkdtempSync(join(tmpdir(), 'filled-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

const configOf = (folder: string, cache: string, parallel: Record<string, unknown> = {}) =>
	readTrainConfig({
		output_dir: folder,
		model: {
			type: 'PixArtTransformer2DModel',
			sample_size: 8,
			patch_size: 4,
			in_channels: 4,
			out_channels: 4,
			num_layers: 2,
			num_attention_heads: 2,
			attention_head_dim: 8,
			cross_attention_dim: 16,
			caption_channels: 96,
		},
		scheduler: { type: 'FlowMatchEulerDiscreteScheduler' },
		data: { type: 'emoji', categories: ['Food & Drink'], size: 32 },
		vae: { path: 'assets/emoji-vae' },
		text_encoder: { path: 'assets/emoji-clip/text_encoder', tokenizer: 'assets/emoji-clip/tokenizer' },
		frozen: { cache },
		train: { max_steps: 5, batch_size: 8, gradient_accumulation_steps: 2, flip: true },
		checkpoint: { every_steps: 2 },
		parallel: { pipeline_stages: 2, ...parallel },
		sample: { enabled: false },
		log: { tensorboard: false },
	});

it('gives the losses of a run that encodes inline, its plan and profile lie in the run folder', async () => {
	const [inline, fill, wide] = [join(root, 'inline'), join(root, 'fill'), join(root, 'wide')];
	await trainModel(configOf(inline, 'inline'));
	await trainModel(configOf(fill, 'fill'));
	await trainModel(configOf(wide, 'fill', { pipeline_stages: 1, data_parallel: 2 }));
	const [expected, found, other] = [await readLosses(inline), await readLosses(fill), await readLosses(wide)];
	expect([...found.keys()]).toEqual([1, 2, 3, 4, 5]);
	for (const [step, loss] of expected) {
		expect(Math.abs(found.get(step)! / loss - 1)).toBeLessThan(1e-5);
		expect(Math.abs(other.get(step)! / loss - 1)).toBeLessThan(1e-5);
	}
	const plan = readPlan(JSON.parse(await readFile(join(fill, 'plan.json'), 'utf8')));
	const samples = new Map<string, number>();
	for (const {
		component,
		layer,
		samples: [from, to],
	} of plan.fill)
		samples.set(`${component} ${layer}`, (samples.get(`${component} ${layer}`) ?? 0) + to - from);
	expect(new Set(samples.values())).toEqual(new Set([8]));
	expect(existsSync(join(fill, 'profile.json'))).toBe(true);
}, 120_000);

it('goes on after a stop to the same losses', async () => {
	const [whole, parts] = [join(root, 'fill'), join(root, 'stopped')];
	const stop = new AbortController();
	await trainModel(configOf(parts, 'fill'), {
		signal: stop.signal,
		onEvent: (event) => {
			if (event.kind === 'step' && event.step === 3) stop.abort();
		},
	});
	await trainModel(configOf(parts, 'fill'), { resume: true });
	const [expected, found] = [await readLosses(whole), await readLosses(parts)];
	expect([...found.keys()]).toEqual([1, 2, 3, 4, 5]);
	for (const [step, loss] of expected) expect(Math.abs(found.get(step)! / loss - 1)).toBeLessThan(1e-5);
}, 120_000);

it.each<[string, Record<string, unknown>]>([
	['zero-bubble, folded', { pipeline_schedule: 'zero-bubble', placement: 'folded' }],
	['interleaved', { pipeline_schedule: 'interleaved-1f1b' }],
	['interleaved, three stages on a rank', { pipeline_schedule: 'interleaved-1f1b', virtual_pipeline_model_parallel_size: 3 }],
	['ranks of one and two devices', { replicas: [1, 2] }],
])(
	'gives the same losses under another schedule: %s',
	async (name, parallel) => {
		const folder = join(root, name);
		await trainModel(configOf(folder, 'fill', parallel));
		const [expected, found] = [await readLosses(join(root, 'inline')), await readLosses(folder)];
		for (const [step, loss] of expected) expect(Math.abs(found.get(step)! / loss - 1)).toBeLessThan(1e-5);
		const plan = readPlan(JSON.parse(await readFile(join(folder, 'plan.json'), 'utf8')));
		const stages = parallel.replicas ? 2 : 2 * Number(parallel.virtual_pipeline_model_parallel_size ?? 2);
		expect(plan.stages.map(({ replicas }) => replicas)).toEqual(parallel.replicas ?? new Array(stages).fill(1));
	},
	120_000,
);

it.each<[string, Record<string, unknown>, string]>([
	['more stages than layers', { pipeline_stages: 9 }, 'parallel.pipeline_stages: there are more stages than layers'],
	['an unknown schedule', { pipeline_schedule: 'zb' }, 'parallel.pipeline_schedule: unknown schedule'],
	[
		'a schedule that cannot be laid so',
		{ pipeline_schedule: 'interleaved-1f1b', placement: 'folded' },
		'schedule interleaved-1f1b: another placement',
	],
	[
		'cuts outside of the model',
		{ partition_method: 'manual', partition_split: [8] },
		'parallel.partition_split: cuts the model where it has no layers',
	],
])('refuses %s before anything is measured', async (name, parallel, message) => {
	const started = trainModel(configOf(join(root, name), 'fill', parallel));
	await expect(started).rejects.toThrow(message);
	expect(existsSync(join(root, name, 'profile.json'))).toBe(false);
});
