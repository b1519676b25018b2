import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { randomStream } from '../../src/core/random.ts';
import { drawSigmas, type SigmaDensity, sigmaAtQuantile } from '../../src/diffusion/timesteps.ts';
import { readTrainConfig } from '../../src/train/config.ts';
import { partOf } from '../../src/train/data/holdout.ts';
import type { DataSet } from '../../src/train/data/types.ts';
import type { TrainEvent } from '../../src/train/events.ts';
import { trainModel } from '../../src/train/trainer.ts';
import { tinyConfig, tinyData } from '../helpers/tiny-run.ts';

type EvalEvent = Extract<TrainEvent, { kind: 'eval' }>;

let tiny: Awaited<ReturnType<typeof tinyData>>;
beforeAll(async () => {
	tiny = await tinyData(30);
});
afterAll(() => tiny.remove());

const evalTable = { every_steps: 2, holdout: 5, quantiles: [0.2, 0.5, 0.8], batch_size: 4 };
const config = (name: string, over: Record<string, Record<string, unknown>> = {}) =>
	readTrainConfig(
		tinyConfig(tiny.data, join(tiny.root, name), { train: { max_steps: 4 }, log: { tensorboard: false }, eval: evalTable, ...over }),
	);

async function measured(name: string, over: Record<string, Record<string, unknown>> = {}): Promise<EvalEvent[]> {
	const found: EvalEvent[] = [];
	await trainModel(config(name, over), { onEvent: (e) => e.kind === 'eval' && found.push(e) });
	return found.map((e) => ({ ...e, ms: 0 }));
}

const named = (names: readonly string[]): DataSet => ({
	...{ name: 'names', size: names.length, channels: 1, height: 1, width: 1, classes: undefined, licence: '' },
	nameOf: (i) => names[i]!,
	load: async (i) => ({ name: names[i]!, image: new Float32Array(1), label: -1, caption: '' }),
});
const namesOf = (set: DataSet) => Array.from({ length: set.size }, (_, i) => set.nameOf(i));

describe('partOf', () => {
	const names = Array.from({ length: 400 }, (_, i) => `picture-${i}.png`);

	it('parts a data set by names alone: two parts, the same among other examples and in another order', async () => {
		for (const size of [0.2, 7]) {
			const [train, held] = (['train', 'held-out'] as const).map((keep) => partOf(named(names), { size, keep })) as [DataSet, DataSet];
			expect([...namesOf(train), ...namesOf(held)].sort()).toEqual([...names].sort());
			const turned = partOf(named([...names].reverse()), { size, keep: 'held-out' });
			expect(namesOf(turned).sort()).toEqual(namesOf(held).sort());
			expect((await held.load(3)).name).toBe(held.nameOf(3));
			expect(held.size).toBeGreaterThan(size < 1 ? 50 : 6);
			expect(held.size).toBeLessThan(size < 1 ? 110 : 8);
		}
		const share = namesOf(partOf(named(names), { size: 0.2, keep: 'held-out' }));
		const more = namesOf(partOf(named([...names, 'another', 'one']), { size: 0.2, keep: 'held-out' }));
		expect(more.filter((name) => name.startsWith('picture'))).toEqual(share);
	});

	it('refuses to leave a part empty', () => {
		expect(() => partOf(named(['a', 'b']), { size: 2, keep: 'train' })).toThrow(/eval.holdout: leaves no example to train on/);
		expect(() => partOf(named(['a']), { size: 1e-9, keep: 'train' })).toThrow(/sets no example aside/);
	});
});

it('finds the noise level below which a share of those trained on lie', () => {
	const densities: SigmaDensity[] = [
		{ kind: 'uniform' },
		{ kind: 'logit_normal', logitMean: 0.4, logitStd: 0.8 },
		{ kind: 'mode', modeScale: 1.29 },
	];
	for (const density of densities) {
		const drawn = drawSigmas(randomStream(1, 'x'), 0, 20_000, { density, shift: 3 }).sort();
		for (const q of [0.1, 0.5, 0.9]) expect(sigmaAtQuantile(q, { density, shift: 3 })).toBeCloseTo(drawn[q * 20_000]!, 1.8);
	}
});

describe('the held-out loss', () => {
	it('is measured before training and as often as told, at every quantile, into the metrics', async () => {
		const found = await measured('plain');
		expect(found.map((e) => [e.step, e.samples])).toEqual([
			[0, 5],
			[2, 5],
			[4, 5],
		]);
		for (const { loss, quantiles } of found) {
			expect(quantiles.map((q) => q.quantile)).toEqual([0.2, 0.5, 0.8]);
			expect(loss).toBeCloseTo(quantiles.reduce((sum, q) => sum + q.loss, 0) / 3, 10);
		}
		expect(found[2]!.loss).not.toBe(found[0]!.loss);
		const lines = (await readFile(join(tiny.root, 'plain', 'metrics.jsonl'), 'utf8'))
			.trim()
			.split('\n')
			.map((line) => JSON.parse(line));
		const evals = lines.filter((line) => 'eval_loss' in line);
		expect(evals.map((line) => [line.step, line.eval_loss])).toEqual(found.map((e) => [e.step, e.loss]));
		expect(Object.keys(evals[0].eval_loss_quantiles)).toEqual(['0.2', '0.5', '0.8']);
	});

	it('is the same to the bit on one device, on a pipeline and on copies of it', async () => {
		const first = async (name: string, over: Record<string, Record<string, unknown>>) =>
			(await measured(name, { train: { max_steps: 1 }, ...over }))[0]!;
		const whole = await first('whole', { parallel: { pipeline_stages: 1, partition_split: [] } });
		expect(await first('stages', { parallel: { pipeline_stages: 3, partition_split: [2, 4] } })).toEqual(whole);
		expect(await first('copies', { parallel: { pipeline_stages: 1, partition_split: [], data_parallel: 4 } })).toEqual(whole);
		expect(await first('both', { parallel: { pipeline_stages: 2, data_parallel: 2 }, train: { max_steps: 1, batch_size: 4 } })).toEqual(
			whole,
		);
	});

	it('is that of the moving average when told, and not lost or measured again when a run is resumed', async () => {
		const plain = await measured('plain-2');
		const ema = await measured('ema', { eval: { ...evalTable, ema: true } });
		expect(ema[0]).toEqual(plain[0]);
		expect(ema[2]!.loss).not.toBe(plain[2]!.loss);
		const controller = new AbortController();
		await trainModel(config('stopped', { eval: { ...evalTable, ema: true } }), {
			signal: controller.signal,
			onEvent: (e) => e.kind === 'step' && e.step === 3 && controller.abort(),
		});
		const found: EvalEvent[] = [];
		await trainModel(config('stopped', { eval: { ...evalTable, ema: true } }), {
			resume: true,
			onEvent: (e) => e.kind === 'eval' && found.push({ ...e, ms: 0 }),
		});
		expect(found).toEqual([ema[2]]);
		expect(() => config('none', { eval: { ...evalTable, ema: true }, train: { max_steps: 2, ema_decay: 0 } })).toThrow(/eval.ema/);
	});

	it('measures latents and captions, a LoRA, and a filled run alike', async () => {
		const over = {
			model: {
				...{ type: 'SD3Transformer2DModel', sample_size: 8, patch_size: 4, in_channels: 4, out_channels: 4, num_layers: 1 },
				...{ num_attention_heads: 2, attention_head_dim: 8, joint_attention_dim: 96, caption_projection_dim: 16 },
				...{ pooled_projection_dim: 64, pos_embed_max_size: 2 },
			},
			data: { type: 'emoji', categories: ['Food & Drink'], size: 32 },
			vae: { path: 'assets/emoji-vae' },
			text_encoder: { path: 'assets/emoji-clip/text_encoder', tokenizer: 'assets/emoji-clip/tokenizer' },
			train: { max_steps: 2, batch_size: 4 },
			parallel: { pipeline_stages: 2 },
			eval: { every_steps: 2, holdout: 'split', quantiles: [0.5], batch_size: 4 },
		};
		const raw = (name: string, more: Record<string, unknown> = {}) => {
			const { data, model, parallel, ...rest } = tinyConfig('', join(tiny.root, name), over);
			return readTrainConfig({ ...rest, data: over.data, model: over.model, parallel: over.parallel, ...more });
		};
		const run = async (name: string, more: Record<string, unknown> = {}) => {
			const found: EvalEvent[] = [];
			await trainModel(raw(name, more), { onEvent: (e) => e.kind === 'eval' && found.push({ ...e, ms: 0 }) });
			return found;
		};
		const inline = await run('inline');
		const filled = await run('filled', { frozen: { cache: 'fill' } });
		expect(filled[0]).toEqual(inline[0]);
		expect(Math.abs(filled[1]!.loss / inline[1]!.loss - 1)).toBeLessThan(1e-4);
		const lora = await run('lora', { model: { ...over.model, pretrained: join(tiny.root, 'inline') }, lora: { rank: 2 } });
		expect(Math.abs(lora[0]!.loss / inline[1]!.loss - 1)).toBeLessThan(0.2);
		expect(lora[1]!.loss).not.toBe(lora[0]!.loss);
	}, 180_000);
});
