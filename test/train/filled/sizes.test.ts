/** @file Filled runs on images of several sizes: the losses of runs that encode inline, in the same order of sizes, also when stopped, resumed and planned again. */
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { mkdir, readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Chain, ChainInput } from '../../../src/nn/chain.ts';
import { linear } from '../../../src/nn/linear.ts';
import { readPlan } from '../../../src/plan/plan-json.ts';
import type { FilledProgram } from '../../../src/program/fill/lower.ts';
import { readRecord } from '../../../src/program/step-record.ts';
import { verifyProgram } from '../../../src/program/verify.ts';
import { readSessionConfig, readTrainConfig } from '../../../src/train/config.ts';
import type { TrainEvent } from '../../../src/train/events.ts';
import { frozenStore } from '../../../src/train/filled/frozen-store.ts';
import { openRunParts } from '../../../src/train/filled/parts.ts';
import { compileFilled, measureRun } from '../../../src/train/filled/plan.ts';
import { trainModel } from '../../../src/train/trainer.ts';
import { runCli } from '../../cli/context.ts';
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

it('gives the losses of a run that encodes inline, keeps a plan of every size, and goes on from a checkpoint to the same bits', async () => {
	const [inline, fill] = [join(root, 'inline'), join(root, 'fill')];
	await trainModel(configOf(inline, 'inline'));
	const events: TrainEvent[] = [];
	const traced = { log: { trace_every_steps: 2 } };
	await trainModel(configOf(fill, 'fill', traced), { onEvent: (event) => void events.push(event) });
	const [expected, found] = [await readLosses(inline), await readLosses(fill)];
	expect([...found.keys()]).toEqual([...expected.keys()]);
	for (const [step, loss] of expected) if (loss !== undefined) expect(Math.abs(found.get(step)! / loss - 1)).toBeLessThan(1e-5);
	expect(events.flatMap((event) => (event.kind === 'plan' ? [event.size] : []))).toEqual(['16x16', '16x24']);
	for (const folder of [fill, join(fill, 'sizes', '16x24')]) {
		const plan = readPlan(JSON.parse(await readFile(join(folder, 'plan.json'), 'utf8')));
		expect(plan.fill.length).toBeGreaterThan(0);
		const record = readRecord(JSON.parse(await readFile(join(folder, 'timeline.json'), 'utf8')));
		expect(plan.peakBytes).toEqual(record.memory.map(({ predictedBytes }) => predictedBytes));
		for (const name of ['profile.json', 'cluster.json', 'programs.txt', 'timeline.json'])
			expect(existsSync(join(folder, name)), name).toBe(true);
	}
	for (const command of ['compare', 'simulate']) expect((await runCli([command, join(fill, 'sizes', '16x24'), '--json'])).code).toBe(0);
	// The profiles of both sizes are there: programs are the same again, and bits with them.
	await trainModel(configOf(fill, 'fill'), { resume: join(fill, 'checkpoints', 'step-00000008') });
	expect([...(await readLosses(fill))]).toEqual([...found]);
}, 180_000);

it('trains self-conditioned models on every size, and goes on to the same bits after steps of either kind', async () => {
	const [inline, fill] = [join(root, 'self-inline'), join(root, 'self-fill')];
	const over = { objective: { self_conditioning: 0.5 }, checkpoint: { every_steps: 1, keep_last: 12 }, eval: { every_steps: 0 } };
	await trainModel(configOf(inline, 'inline', over));
	await trainModel(configOf(fill, 'fill', over));
	const [expected, found] = [await readLosses(inline), await readLosses(fill)];
	for (const [step, loss] of expected) expect(Math.abs(found.get(step)! / loss - 1)).toBeLessThan(1e-5);
	for (const folder of [fill, join(fill, 'sizes', '16x24')])
		expect(readPlan(JSON.parse(await readFile(join(folder, 'plan.json'), 'utf8'))).selfConditioning!.fill.length).toBeGreaterThan(0);
	for (const step of [7, 6]) {
		await trainModel(configOf(fill, 'fill', over), { resume: join(fill, 'checkpoints', `step-${String(step).padStart(8, '0')}`) });
		expect([...(await readLosses(fill))]).toEqual([...found]);
	}
}, 180_000);

it('plans every size again from its own steps: what fills the bubbles changes, cuts and losses do not', async () => {
	const [inline, again] = [join(root, 'inline'), join(root, 'again')];
	const notes: string[] = [];
	const parallel = { replan_after: 3, replan_gain: -1000 };
	await trainModel(configOf(again, 'fill', { parallel }), { onEvent: (e) => void (e.kind === 'note' && notes.push(e.text)) });
	const told = notes.flatMap((text) => /^from measured times of images of (\w+): .*: (.*)$/.exec(text)?.slice(1).join(' ') ?? []);
	expect(told.sort()).toEqual(['16x16 moved', '16x24 moved']);
	const plans = await Promise.all(
		[again, join(again, 'sizes', '16x24')].map(async (folder) => readPlan(JSON.parse(await readFile(join(folder, 'plan.json'), 'utf8')))),
	);
	expect(plans[1]!.stages.map(({ layers }) => layers)).toEqual(plans[0]!.stages.map(({ layers }) => layers));
	const lines = async (folder: string) =>
		(await readFile(join(folder, 'metrics.jsonl'), 'utf8'))
			.trim()
			.split('\n')
			.map((line) => JSON.parse(line) as Record<string, number>);
	const [expected, found] = [await lines(inline), await lines(again)];
	expect(found.length).toBe(expected.length);
	for (const [i, line] of expected.entries())
		for (const key of ['loss', 'eval_loss'])
			if (line[key] !== undefined) expect(Math.abs(found[i]![key]! / line[key] - 1)).toBeLessThan(1e-5);
}, 180_000);

it('fills text encoders alone, changes sizes with every step, and bears a first size without images', async () => {
	const over = {
		model: {
			...{ type: 'PixArtTransformer2DModel', sample_size: 32, patch_size: 2, in_channels: 3, out_channels: 3, num_layers: 2 },
			...{ num_attention_heads: 2, attention_head_dim: 8, cross_attention_dim: 16, caption_channels: 96 },
		},
		data: {
			...{ type: 'folder', path: data, height: 32, width: 32, bucket_run_length: 1 },
			buckets: [
				[8, 8],
				[12, 8],
			],
		},
		vae: { path: '' },
		train: { max_steps: 5, batch_size: 2, gradient_accumulation_steps: 2 },
		eval: { every_steps: 0 },
	};
	const [inline, fill] = [join(root, 'text-inline'), join(root, 'text-fill')];
	await trainModel(configOf(inline, 'inline', over));
	await trainModel(configOf(fill, 'fill', over));
	const [expected, found] = [await readLosses(inline), await readLosses(fill)];
	expect([...found.keys()]).toEqual([1, 2, 3, 4, 5]);
	for (const [step, loss] of expected) expect(Math.abs(found.get(step)! / loss - 1)).toBeLessThan(1e-5);
	expect(existsSync(join(fill, 'sizes', '8x8', 'plan.json')) && existsSync(join(fill, 'sizes', '8x12', 'plan.json'))).toBe(true);
}, 180_000);

it('reads the weights of frozen parts once, into memory that the devices of every size share', async () => {
	const store = frozenStore();
	let reads = 0;
	const programs: FilledProgram[] = [];
	for (const [height, width] of [
		[16, 16],
		[16, 24],
	] as const) {
		const parts = await openRunParts('assets/emoji-vae', '', { height, width }, false);
		const counted = parts.parts.map((part) => {
			const weights = (name: string) => {
				reads++;
				return part.weights(name);
			};
			return { ...part, weights };
		});
		const one: ChainInput = { dtype: 'float32', shape: [4, height / 4, width / 4] };
		const chain: Chain = {
			name: 'scaled',
			inputs: { x0: one },
			layers: [
				{ name: 'linear', build: (ctx, live) => live.set('x', linear(ctx, ctx.g.reshape(live.get('x0'), [-1, 4]), 4)) },
				{ name: 'loss', build: ({ g }, live) => live.set('loss', g.reduceSumSquare(g.reshape(live.get('x'), [2, -1]), [1], false)) },
			],
			outputs: ['loss'],
		};
		const config = readSessionConfig({ train: { max_steps: 1, batch_size: 2 } });
		const run = { ...parts, parts: counted };
		const filled = compileFilled(config, chain, run, await measureRun(config, chain, run, false), 2);
		programs.push(await store.place(filled.compiled, counted));
		await parts.close();
	}
	const banks = programs.map(({ program }) => program.devices.map((device) => device.banks.filter(({ id }) => store.bank(id))));
	expect(banks[0]).toEqual(banks[1]);
	const residents = programs[0]!.program.devices[0]!.residents.filter(({ slot }) => slot.startsWith('frozen:'));
	expect(residents.length).toBeGreaterThan(10);
	expect(reads).toBe(residents.length);
	for (const { program } of programs) verifyProgram(program);
}, 180_000);
