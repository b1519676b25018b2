/** @file The plan of a cascade: searched for both models together, kept in the run's folder, and compared with what a traced step measured. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { runProgram } from '../../../src/cli/program.ts';
import { sampleCascade } from '../../../src/generate/index.ts';
import type { Plan } from '../../../src/plan/types.ts';
import type { CascadeEvent } from '../../../src/train/cascade/events.ts';
import { trainCascade } from '../../../src/train/cascade/trainer.ts';
import { fakeContext } from '../../cli/context.ts';
import { expectClose } from '../../helpers/close.ts';
import { type Over, tinyCascade } from './tiny.ts';

// Machines are shared.
vi.setConfig({ testTimeout: 240_000 });

let root: string;
beforeAll(async () => {
	root = await mkdtemp(join(tmpdir(), 'cascade-plan-'));
});
afterAll(() => rm(root, { recursive: true, force: true }));

const readJson = async (...path: string[]) => JSON.parse(await readFile(join(root, ...path), 'utf8'));
const weights = (run: string, part: string) => readFile(join(root, run, 'pipeline', part, 'diffusion_pytorch_model.safetensors'));

async function train(name: string, over?: Over, { stopAfter = 0, resume = false as string | boolean } = {}) {
	const controller = new AbortController();
	const events: CascadeEvent[] = [];
	const result = await trainCascade(tinyCascade(join(root, name), over), {
		resume,
		signal: controller.signal,
		onEvent(event) {
			events.push(event);
			if (event.kind === 'step' && event.step === stopAfter) controller.abort();
		},
	});
	return { result, events };
}

describe('the plan of a cascade', () => {
	it('is of both models, and what compare shows a traced step beside', async () => {
		const { result, events } = await train('run', { log: { trace_every_steps: 2, tensorboard: false } });
		expect(result.finished).toBe(true);
		expect(events).toContainEqual(
			expect.objectContaining({ kind: 'note', text: expect.stringMatching(/^planned: .* ms per step predicted/) }),
		);
		const plan: Plan = await readJson('run', 'plan.json');
		expect(plan).toMatchObject({ schedule: 'bidirectional', ranks: 2, microBatches: 2, batch: 4 });
		expect(plan.stages.map(({ backbone, rank }) => `${backbone} ${rank}`)).toEqual([
			'base 0',
			'base 1',
			'super_resolution 1',
			'super_resolution 0',
		]);
		const profile = await readJson('run', 'profile.json');
		expect(profile.backbones.map((b: { name: string }) => b.name)).toEqual(['base', 'super_resolution']);
		// The rows that ran are the plan's.
		const programs = await readFile(join(root, 'run', 'programs.txt'), 'utf8');
		const order = [...programs.slice(0, programs.indexOf('device 1')).matchAll(/\b(\d[FB]\d)\b/g)].map(([, action]) => action);
		expect([...new Set(order)]).toEqual(plan.rows[0]!.split(','));
		const context = fakeContext({ cwd: root });
		expect(await runProgram(['compare', 'run'], context)).toBe(0);
		expect(context.out()).toMatch(
			/one pipeline of 2 stages, 2 micro-batches, bidirectional\n {2}iteration .* ms predicted, .* ms measured/,
		);
		expect(context.out()).toMatch(/base forward, .* super_resolution forward/);
		const again = fakeContext({ cwd: root });
		expect(await runProgram(['simulate', 'run'], again)).toBe(0);
		expect(again.out()).toMatch(/bidirectional/);
		const inspected = fakeContext({ cwd: root });
		expect(await runProgram(['inspect', 'run'], inspected)).toBe(0);
		expect(inspected.out()).toMatch(/a finished run, checkpoints of steps 3\n[\s\S]*pipeline\/super_resolution\/unet: UNet2DModel/);
	});

	it('is taken up again: the same program and the same bits', async () => {
		await train('stopped', {}, { stopAfter: 1 });
		const kept = await readFile(join(root, 'stopped', 'plan.json'), 'utf8');
		const programs = await readFile(join(root, 'stopped', 'programs.txt'), 'utf8');
		const { events } = await train('stopped', {}, { resume: true });
		expect(events.some((event) => event.kind === 'note' && /measuring/.test(event.text))).toBe(false);
		expect(await readFile(join(root, 'stopped', 'plan.json'), 'utf8')).toBe(kept);
		// Also from a step that is not the newest.
		const newest = await weights('stopped', 'unet');
		const first = join(root, 'stopped', 'checkpoints', 'super_resolution', 'step-00000001');
		const again = await train('stopped', {}, { resume: first });
		expect(again.events.filter((event) => event.kind === 'step').map(({ step }) => step)).toEqual([2, 3]);
		expect((await weights('stopped', 'unet')).equals(newest)).toBe(true);
		const none = join(root, 'stopped', 'checkpoints', 'base', 'step-00000009');
		await expect(train('stopped', {}, { resume: none })).rejects.toThrow(/step-00000009: is no checkpoint of a cascade/);
		const drawn = (folder: string) => sampleCascade(folder, { labels: [0], steps: 1 });
		expect((await drawn(first)).large.images).not.toEqual((await drawn(join(root, 'stopped'))).large.images);
		expect(await readFile(join(root, 'stopped', 'programs.txt'), 'utf8')).toBe(programs);
		// The very layout of that run from the beginning.
		const cutsOf = ({ stages }: Plan, name: string) =>
			stages
				.filter(({ backbone }) => backbone === name)
				.slice(1)
				.map(({ layers }) => layers[0]);
		const plan: Plan = JSON.parse(kept);
		const manual = {
			parallel: { partition_method: 'manual', partition_split: cutsOf(plan, 'base') },
			super_resolution: { partition_split: cutsOf(plan, 'super_resolution') },
		};
		await train('whole', manual);
		for (const part of ['unet', 'super_resolution/unet']) {
			expect((await weights('stopped', part)).equals(await weights('whole', part)), part).toBe(true);
		}
	});

	it('is made anew for another layout, or where the old one is gone or broken', async () => {
		await train('other', { parallel: { pipeline_stages: 1 } }, { stopAfter: 1 });
		await expect(readJson('other', 'plan.json')).rejects.toThrow();
		const { events } = await train('other', { train: { max_steps: 2 } }, { resume: true });
		expect(events).toContainEqual(expect.objectContaining({ kind: 'note', text: expect.stringMatching(/measuring/) }));
		expect((await readJson('other', 'plan.json')).ranks).toBe(2);
		await writeFile(join(root, 'other', 'profile.json'), '{');
		const { result } = await train('other', { train: { max_steps: 3 } }, { resume: true });
		expect(result).toMatchObject({ step: 3, finished: true });
	});
});

describe('held-out losses of a cascade', () => {
	const held = { eval: { every_steps: 1, holdout: 6, quantiles: [0.25, 0.75] }, train: { max_steps: 1 } };
	const found = async (name: string, over: Over) => {
		const { events } = await train(name, { ...held, ...over });
		return events.filter((event) => event.kind === 'eval');
	};

	it('are of both models, at their start and after their steps, whatever the devices', async () => {
		const one = await found('held one', { parallel: { pipeline_stages: 1 } });
		const manual = { partition_method: 'manual', partition_split: [5] };
		const two = await found('held two', { parallel: manual, super_resolution: { partition_split: [6] } });
		expect(one.map(({ step }) => step)).toEqual([0, 1]);
		for (const [i, { base, super_resolution }] of one.entries()) {
			expect([base.samples, super_resolution.samples]).toEqual([6, 6]);
			expect(base.quantiles.map(({ quantile }) => quantile)).toEqual([0.25, 0.75]);
			expect(base.loss).not.toBeCloseTo(super_resolution.loss, 6);
			for (const name of ['base', 'super_resolution'] as const) {
				const losses = (event: (typeof one)[0]) => event[name].quantiles.map(({ loss }) => loss);
				expectClose(losses(two[i]!), losses(one[i]!), { rtol: 1e-5, what: `${name}, measurement ${i}` });
			}
		}
		expect(one[1]!.super_resolution.loss).toBeLessThan(one[0]!.super_resolution.loss);
		const lines = (await readFile(join(root, 'held one', 'metrics.jsonl'), 'utf8'))
			.trim()
			.split('\n')
			.map((line) => JSON.parse(line));
		expect(lines.at(-1)).toMatchObject({ step: 1, base: { eval_loss: one[1]!.base.loss }, super_resolution: { eval_loss_quantiles: {} } });
		// The average hardly moves in a step.
		const [before, after] = await found('held average', {
			parallel: { pipeline_stages: 1 },
			eval: { ...held.eval, ema: true },
			train: { max_steps: 1, ema_decay: 0.9999 },
		});
		expect(before!.base.loss).toBe(one[0]!.base.loss);
		expect(Math.abs(after!.super_resolution.loss - before!.super_resolution.loss)).toBeLessThan(
			Math.abs(one[1]!.super_resolution.loss - before!.super_resolution.loss),
		);
	}, 240_000);
});
