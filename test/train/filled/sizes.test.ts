/** @file Filled runs on images of several sizes: the losses of runs that encode inline, in the same order of sizes, also when stopped, resumed and planned again. */
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { mkdir, readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { readPlan } from '../../../src/plan/plan-json.ts';
import { readTrainConfig } from '../../../src/train/config.ts';
import type { TrainEvent } from '../../../src/train/events.ts';
import { trainModel } from '../../../src/train/trainer.ts';
import { readLosses } from '../../helpers/tiny-run.ts';

const root = mkdtempSync(join(tmpdir(), 'filled-sizes-'));
const data = join(root, 'images');
/** Nine square pictures and seven wide ones: 5 and 4 batches of two, in runs of three steps at most. */
beforeAll(async () => {
	await mkdir(data);
	const shapes = [...new Array(9).fill([16, 16]), ...new Array(7).fill([24, 16])] as [number, number][];
	for (const [i, [width, height]] of shapes.entries()) {
		const raw = Uint8Array.from({ length: 3 * width * height }, (_, k) => (k * (i + 3)) % 250);
		await sharp(raw, { raw: { width, height, channels: 3 } })
			.png()
			.toFile(join(data, `${String(i).padStart(2, '0')}.png`));
	}
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

const configOf = (folder: string, cache: string, over: Record<string, Record<string, unknown>> = {}) =>
	readTrainConfig({
		output_dir: folder,
		seed: 5,
		model: {
			type: 'PixArtTransformer2DModel',
			sample_size: 4,
			patch_size: 2,
			in_channels: 4,
			out_channels: 4,
			num_layers: 2,
			num_attention_heads: 2,
			attention_head_dim: 8,
			cross_attention_dim: 16,
			caption_channels: 96,
		},
		scheduler: { type: 'FlowMatchEulerDiscreteScheduler' },
		data: { type: 'folder', path: data, height: 16, width: 16, buckets: [[24, 16]], bucket_run_length: 3 },
		vae: { path: 'assets/emoji-vae' },
		text_encoder: { path: 'assets/emoji-clip/text_encoder', tokenizer: 'assets/emoji-clip/tokenizer' },
		frozen: { cache },
		train: { max_steps: 12, batch_size: 2, gradient_accumulation_steps: 2, flip: true },
		eval: { every_steps: 6, holdout: 2, quantiles: [0.5], batch_size: 2 },
		checkpoint: { every_steps: 4 },
		sample: { enabled: false },
		...over,
		parallel: { pipeline_stages: 2, ...over.parallel },
		log: { tensorboard: false, ...over.log },
	});

it('gives the losses of a run that encodes inline, keeps a plan of every size, and goes on after a stop to the same losses', async () => {
	const [inline, fill, stopped] = [join(root, 'inline'), join(root, 'fill'), join(root, 'stopped')];
	await trainModel(configOf(inline, 'inline'));
	const events: TrainEvent[] = [];
	const traced = { log: { trace_every_steps: 1 } };
	await trainModel(configOf(fill, 'fill', traced), { onEvent: (event) => void events.push(event) });
	const [expected, found] = [await readLosses(inline), await readLosses(fill)];
	expect([...found.keys()]).toEqual([...expected.keys()]);
	for (const [step, loss] of expected) if (loss !== undefined) expect(Math.abs(found.get(step)! / loss - 1)).toBeLessThan(1e-5);
	expect(events.flatMap((event) => (event.kind === 'plan' ? [event.size] : []))).toEqual(['16x16', '16x24']);
	for (const folder of [fill, join(fill, 'sizes', '16x24')]) {
		const plan = readPlan(JSON.parse(await readFile(join(folder, 'plan.json'), 'utf8')));
		expect(plan.fill.length).toBeGreaterThan(0);
		for (const name of ['profile.json', 'cluster.json', 'programs.txt', 'timeline.json'])
			expect(existsSync(join(folder, name)), name).toBe(true);
	}
	const stop = new AbortController();
	await trainModel(configOf(stopped, 'fill'), {
		signal: stop.signal,
		onEvent: (event) => void (event.kind === 'step' && event.step === 5 && stop.abort()),
	});
	const profile = await readFile(join(stopped, 'profile.json'), 'utf8');
	await trainModel(configOf(stopped, 'fill'), { resume: true });
	expect(await readFile(join(stopped, 'profile.json'), 'utf8')).toBe(profile);
	expect([...(await readLosses(stopped)).keys()]).toEqual([...expected.keys()]);
	for (const [step, loss] of await readLosses(stopped))
		if (loss !== undefined) expect(Math.abs(found.get(step)! / loss - 1)).toBeLessThan(1e-5);
}, 60_000);
