/** @file Filled runs with self-conditioning: the losses of a run on one device, both kinds of step in the plan and in the traces, resuming to the bit. */
import { cpSync, existsSync, mkdtempSync, rmSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { readCompared } from '../../../src/cli/compare/read.ts';
import { randomStream } from '../../../src/core/random.ts';
import { readPlan } from '../../../src/plan/plan-json.ts';
import { readTrainConfig } from '../../../src/train/config.ts';
import { trainModel } from '../../../src/train/trainer.ts';
import { readLosses } from '../../helpers/tiny-run.ts';

const root = mkdtempSync(join(tmpdir(), 'filled-self-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

const seed = 7;
const steps = 6;
const configOf = (name: string, cache: string, parallel: Record<string, unknown> = {}) =>
	readTrainConfig({
		seed,
		output_dir: join(root, name),
		model: {
			...{ type: 'PixArtTransformer2DModel', sample_size: 8, patch_size: 4, in_channels: 4, out_channels: 4, num_layers: 2 },
			...{ num_attention_heads: 2, attention_head_dim: 8, cross_attention_dim: 16, caption_channels: 96 },
		},
		scheduler: { type: 'FlowMatchEulerDiscreteScheduler' },
		objective: { self_conditioning: 0.5 },
		data: { type: 'emoji', categories: ['Food & Drink'], size: 32 },
		vae: { path: 'assets/emoji-vae' },
		text_encoder: { path: 'assets/emoji-clip/text_encoder', tokenizer: 'assets/emoji-clip/tokenizer' },
		frozen: { cache },
		train: { max_steps: steps, batch_size: 8, gradient_accumulation_steps: 2 },
		checkpoint: { every_steps: 1, keep_last: steps },
		parallel: { pipeline_stages: 2, ...parallel },
		sample: { enabled: false },
		log: { tensorboard: false, trace_every_steps: 1 },
	});

/** The folder of a copy of the run `name`, which has gone on from `step` to the end. */
async function resumed(name: 'fill' | 'inline', step: number): Promise<string> {
	const copy = `${name} from ${step}`;
	cpSync(join(root, name), join(root, copy), { recursive: true });
	for (let later = step + 1; later <= steps; later++)
		rmSync(join(root, copy, 'checkpoints', `step-${String(later).padStart(8, '0')}`), { recursive: true, force: true });
	await trainModel(configOf(copy, name), { resume: true, allowConfigChange: true });
	return join(root, copy);
}

it('gives the losses of a run on one device; plan and traces show both kinds of step', async () => {
	const swept = Array.from({ length: steps }, (_, step) => randomStream(seed, 'train.self_conditioning').uniform(step, 0) < 0.5);
	expect(new Set(swept.slice(0, -1))).toEqual(new Set([true, false]));
	await trainModel(configOf('one', 'inline', { pipeline_stages: 1 }));
	const notes: string[] = [];
	await trainModel(configOf('fill', 'fill'), { onEvent: (e) => e.kind === 'note' && notes.push(e.text) });
	await trainModel(configOf('inline', 'inline'));
	const [expected, found, inline] = await Promise.all(['one', 'fill', 'inline'].map((name) => readLosses(join(root, name))));
	expect(found!.size).toBe(steps);
	for (const [step, loss] of expected!) {
		expect(Math.abs(found!.get(step)! / loss - 1)).toBeLessThan(1e-5);
		expect(Math.abs(inline!.get(step)! / loss - 1)).toBeLessThan(1e-5);
	}
	for (const name of ['fill', 'inline']) {
		const plan = readPlan(JSON.parse(await readFile(join(root, name, 'plan.json'), 'utf8')));
		expect(plan.selfConditioning!.probability).toBe(0.5);
		expect(plan.selfConditioning!.rows).not.toEqual(plan.rows);
		expect(plan.selfConditioning!.iterationMs).toBeGreaterThan(plan.iterationMs);
		expect(plan.selfConditioning!.fill.length > 0).toBe(name === 'fill');
		const given = { plan: undefined, timeline: undefined, profile: undefined, cluster: undefined };
		const compared = await readCompared(join(root, name), given, '/');
		const kinds = compared.map(({ swept: kind, comparison, record }) => {
			expect(swept[record.step - 1]).toBe(kind);
			// What runs in a step with a sweep ahead is what the plan of such steps says: it has forwards of four stages in two.
			const of = (spans: typeof record.devices) =>
				new Set(spans.flatMap((d) => d.spans.flatMap(({ action }) => (action ? [action.stage] : []))));
			expect(of(record.devices).size).toBe(kind ? 4 : 2);
			expect(comparison.iterationMs.predicted).toBeGreaterThan(0);
			return kind;
		});
		expect(kinds).toEqual([false, true]);
	}
	expect(notes.join('\n')).toMatch(
		/filled: [\d.]+ ms per step \([\d.]+ ms without self-conditioning, [\d.]+ ms with self-conditioning at probability 0.5\) predicted/,
	);
}, 120_000);

it('plans again from steps of both kinds', async () => {
	const notes: string[] = [];
	const parallel = { replan_after: 4, replan_gain: -1000 };
	await trainModel(configOf('again', 'fill', parallel), { onEvent: (e) => e.kind === 'note' && notes.push(e.text) });
	expect(notes.some((text) => /^from measured times: .*: moved$/.test(text))).toBe(true);
	const [expected, found] = await Promise.all(['one', 'again'].map((name) => readLosses(join(root, name))));
	for (const [step, loss] of expected!) expect(Math.abs(found!.get(step)! / loss - 1)).toBeLessThan(1e-5);
}, 120_000);

it('resumes to the same bits, after steps of either kind', async () => {
	const whole = await readLosses(join(root, 'fill'));
	for (const step of [2, 3]) {
		const again = await resumed('fill', step);
		expect(await readLosses(again)).toEqual(whole);
		expect(existsSync(join(again, 'pipeline'))).toBe(true);
	}
}, 120_000);

it('resumes a run without filling with the plan and the program of its first start', async () => {
	const again = await resumed('inline', 4);
	expect(await readLosses(again)).toEqual(await readLosses(join(root, 'inline')));
	const text = (folder: string, name: string) => readFile(join(folder, name), 'utf8');
	for (const name of ['programs.txt', 'plan.json']) expect(await text(again, name)).toBe(await text(join(root, 'inline'), name));
}, 120_000);
