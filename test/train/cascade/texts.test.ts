/** @file Captioned cascades: losses of one device with the text encoder beside the step and in the bubbles, and pictures of prompts. */
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runProgram } from '../../../src/cli/program.ts';
import { cascadeSamples } from '../../../src/generate/cascade.ts';
import { sampleCascade } from '../../../src/generate/index.ts';
import type { Plan } from '../../../src/plan/types.ts';
import { backboneNames } from '../../../src/train/cascade/config.ts';
import type { CascadeEvent, CascadeResult } from '../../../src/train/cascade/events.ts';
import { createCascade } from '../../../src/train/cascade/models.ts';
import { trainCascade } from '../../../src/train/cascade/trainer.ts';
import { openLoader } from '../../../src/train/data/loader.ts';
import { captionDropper, closeFrozenParts, openFrozenParts } from '../../../src/train/frozen-parts.ts';
import { hyperOf, openSession } from '../../../src/train/session.ts';
import { fakeContext } from '../../cli/context.ts';
import { expectClose } from '../../helpers/close.ts';
import { captioned, type Over, tinyCascade, unet } from './tiny.ts';

let root: string;
beforeAll(async () => {
	root = await mkdtemp(join(tmpdir(), 'cascade-texts-'));
});
afterAll(() => rm(root, { recursive: true, force: true }));

const texts = {
	model: captioned(8),
	text_encoder: { path: 'assets/emoji-clip/text_encoder', tokenizer: 'assets/emoji-clip/tokenizer' },
	objective: { caption_dropout: 0.3 },
	super_resolution: { model: captioned(16) },
	train: { max_steps: 2 },
};
/** Machines are shared. */
const patience = 240_000;
const drawn = { sample: { enabled: true, prompts: ['lemon'], steps: 2, guidance_scale: 2 } };

interface Told {
	readonly result: CascadeResult;
	readonly losses: Record<'base' | 'super_resolution', number>[];
	readonly events: readonly CascadeEvent[];
}

async function train(name: string, over: Over, { stopAfter = 0, resume = false } = {}): Promise<Told> {
	const controller = new AbortController();
	const losses: Told['losses'] = [];
	const events: CascadeEvent[] = [];
	const result = await trainCascade(tinyCascade(join(root, name), over), {
		resume,
		signal: controller.signal,
		samples: cascadeSamples,
		onEvent(event) {
			events.push(event);
			if (event.kind === 'step') losses.push({ ...event.losses });
			if (event.kind === 'step' && event.step === stopAfter) controller.abort();
		},
	});
	return { result, losses, events };
}

/** What each model trained alone, on one device, loses. */
async function alone(over: Over): Promise<Told['losses']> {
	const config = tinyCascade(join(root, 'alone'), over);
	const { base } = config;
	const loader = await openLoader(base.data as never, { seed: base.seed, batchSize: base.train.batch_size });
	const frozen = await openFrozenParts(base, loader.info, () => {});
	const cascade = createCascade(config, loader.info, frozen.text);
	const drop = captionDropper(base);
	const losses = Array.from({ length: base.train.max_steps }, () => ({ base: 0, super_resolution: 0 }));
	for (const name of backboneNames) {
		const own = config[name];
		const one = { ...own, parallel: { ...own.parallel, pipeline_stages: 1, pipeline_schedule: '1f1b' } };
		const session = await openSession(cascade.parts[name].chain, one, { average: true, seed: own.seed });
		for (const [step, row] of losses.entries()) {
			const batch = await loader.batchAt(step);
			const feeds = cascade.feeds(batch, await frozen.text!.encode(drop(step, batch.captions)));
			row[name] = (await session.step(feeds[name], hyperOf(one, step).hyper)).loss;
		}
		await session.close();
	}
	await closeFrozenParts(frozen);
	await loader.close();
	return losses;
}

const flat = (losses: Told['losses']) => losses.flatMap(({ base, super_resolution }) => [base, super_resolution]);
const weights = (run: string, part: string) => readFile(join(root, run, 'pipeline', part, 'diffusion_pytorch_model.safetensors'));

describe('a captioned cascade', () => {
	it(
		'has the losses of one device, its texts encoded beside the step or in the bubbles',
		async () => {
			const want = flat(await alone(texts));
			expect(new Set(want).size).toBe(want.length);
			// Cut by hand: it need not be measured.
			const parallel = { partition_method: 'manual', partition_split: [6] };
			const larger = { ...texts.super_resolution, partition_split: [9] };
			const inline = await train('inline', { ...texts, ...drawn, parallel, super_resolution: larger });
			expectClose(flat(inline.losses), want, { rtol: 1e-5, what: 'inline' });
			const filled = await train('filled', { ...texts, frozen: { cache: 'fill' } });
			expectClose(flat(filled.losses), want, { rtol: 1e-5, what: 'filled' });
			// The plan has the text encoder in it, and the devices ran it.
			const plan: Plan = JSON.parse(await readFile(join(root, 'filled', 'plan.json'), 'utf8'));
			expect(plan.fill.length).toBeGreaterThan(0);
			expect(plan.fill.every(({ component }) => component === 'text_encoder')).toBe(true);
			expect(await readFile(join(root, 'filled', 'programs.txt'), 'utf8')).toMatch(/text_encoder 0-/);
		},
		patience,
	);

	it(
		'is drawn with by prompts, in training and from its folder',
		async () => {
			expect(await readdir(join(root, 'inline', 'samples'))).toEqual(['step-00000002.png']);
			const context = fakeContext({ cwd: root });
			expect(await runProgram(['sample', 'inline', '--prompt', 'lemon', '--prompt', 'tomato', '--output', 'two.png'], context)).toBe(0);
			expect(context.err()).toMatch(/2 steps, guidance scale 2: as its run drew/);
			expect(context.err()).toMatch(/enlarging 8 x 8 to 16 x 16/);
			const { small, large } = await sampleCascade(join(root, 'inline'), { prompts: ['lemon', 'tomato'], height: 16, width: 32 });
			expect([small.shape, large.shape]).toEqual([
				[2, 3, 8, 16],
				[2, 3, 16, 32],
			]);
			const one = await sampleCascade(join(root, 'inline'), { prompts: ['tomato'], height: 16, width: 32 });
			expectClose(one.large.images, large.images.subarray(large.images.length / 2), { rtol: 1e-3, atol: 1e-4, what: 'alone' });
			const other = await sampleCascade(join(root, 'inline'), { prompts: ['lemon'], height: 16, width: 32 });
			expect(other.large.images).not.toEqual(one.large.images);
		},
		patience,
	);

	it(
		'is drawn with from the newest checkpoints before it is finished, and refuses what means nothing to it',
		async () => {
			await train('stopped', { ...texts, frozen: { cache: 'fill' } }, { stopAfter: 1 });
			const options = { prompts: ['lemon'], steps: 1 };
			expect((await sampleCascade(join(root, 'stopped'), options)).large.shape).toEqual([1, 3, 16, 16]);
			await expect(sampleCascade(join(root, 'stopped'), { ...options, height: 15 })).rejects.toThrow(
				/height: the size does not do[\s\S]*multiple of 2/,
			);
			await expect(sampleCascade(join(root, 'stopped'), { ...options, image: 'a.png' })).rejects.toThrow(/image: is not for cascades/);
			await expect(sampleCascade(join(root, 'stopped'), { labels: [0] })).rejects.toThrow(/takes prompts/);
			await expect(sampleCascade(root, options)).rejects.toThrow(/holds no cascade/);
			const context = fakeContext({ cwd: root });
			expect(await runProgram(['sample', 'stopped', '--prompt', 'lemon', '--lora', 'x'], context)).toBe(2);
			expect(context.err()).toMatch(/lora: is not for cascades/);
		},
		patience,
	);

	it(
		'resumes filled to the bits of the run never stopped',
		async () => {
			const { events } = await train('stopped', { ...texts, frozen: { cache: 'fill' } }, { resume: true });
			expect(events.some((event) => event.kind === 'note' && /measuring/.test(event.text))).toBe(false);
			const plan: Plan = JSON.parse(await readFile(join(root, 'stopped', 'plan.json'), 'utf8'));
			const cutsOf = (name: string) => [plan.stages.filter(({ backbone }) => backbone === name)[1]!.layers[0]];
			const manual = { partition_method: 'manual', partition_split: cutsOf('base') };
			const larger = { ...texts.super_resolution, partition_split: cutsOf('super_resolution') };
			await train('whole', { ...texts, frozen: { cache: 'fill' }, parallel: manual, super_resolution: larger });
			for (const part of ['unet', 'super_resolution/unet'])
				expect((await weights('stopped', part)).equals(await weights('whole', part)), part).toBe(true);
		},
		patience,
	);

	it(
		'may tell the base alone, and refuses models that are told nothing or something else',
		async () => {
			const { result } = await train('base', {
				...texts,
				train: { max_steps: 1 },
				super_resolution: { model: unet(16) },
				parallel: { pipeline_stages: 1 },
			});
			expect(result.finished).toBe(true);
			expect((await sampleCascade(join(root, 'base'), { prompts: ['lemon'] })).large.shape).toEqual([1, 3, 16, 16]);
			await expect(train('a', { ...texts, model: unet(8) })).rejects.toThrow(/the base is not told the texts/);
			await expect(train('b', { ...texts, text_encoder: {} })).rejects.toThrow(/nothing gives the model's input encoder_hidden_states/);
			const narrow = { ...captioned(8), cross_attention_dim: 32 };
			await expect(train('c', { ...texts, model: narrow })).rejects.toThrow(/the text does not fit the model[\s\S]*\[24, 32\]/);
			const objective = { caption_dropout: 0.1 };
			const twice = { ...texts, super_resolution: { ...texts.super_resolution, objective } };
			expect(() => tinyCascade(join(root, 'd'), twice)).toThrow(
				/super_resolution.objective.caption_dropout: captions are dropped for both/,
			);
		},
		patience,
	);
});
