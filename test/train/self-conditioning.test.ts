import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { randomStream } from '../../src/core/random.ts';
import { tensor } from '../../src/core/tensor.ts';
import { evaluationChain, trainingChain, x0Estimate } from '../../src/diffusion/objective.ts';
import { createSampler } from '../../src/diffusion/samplers/index.ts';
import { denoiseSamples, plainLayout, predictor } from '../../src/generate/denoising.ts';
import { createPipeline, trainingSamples } from '../../src/generate/index.ts';
import { createDenoiser } from '../../src/models/index.ts';
import { readTrainConfig } from '../../src/train/config.ts';
import { trainModel } from '../../src/train/trainer.ts';
import { evaluateChain, referenceOf, seededWeights } from '../engine/reference.ts';
import { expectClose } from '../helpers/close.ts';
import { readLosses, tinyConfig, tinyData } from '../helpers/tiny-run.ts';

let tiny: Awaited<ReturnType<typeof tinyData>>;
beforeAll(async () => {
	tiny = await tinyData();
});
afterAll(() => tiny.remove());

const folder = (name: string) => join(tiny.root, name);
const config = (name: string, over: Record<string, Record<string, unknown>> = {}) =>
	readTrainConfig(tinyConfig(tiny.data, folder(name), { objective: { self_conditioning: 0.5 }, ...over }));
const oneDevice = { parallel: { pipeline_stages: 1, partition_split: [] } };
const losses = async (name: string) => [...(await readLosses(folder(name)))].map(([, loss]) => loss);

const small = {
	num_attention_heads: 2,
	attention_head_dim: 8,
	num_layers: 1,
	patch_size: 2,
	sample_size: 4,
	in_channels: 2,
	out_channels: 1,
	num_embeds_ada_norm: 2,
	_self_conditioning: 1,
};

describe('self-conditioning', () => {
	it('trains alike on one device and on two stages, and otherwise than without', async () => {
		await trainModel(config('one', oneDevice));
		await trainModel(config('two', { sample: { enabled: true, steps: 3, per_label: 1 }, eval: { every_steps: 12, holdout: 4 } }), {
			samples: trainingSamples,
		});
		await trainModel(config('two-alike'));
		await trainModel(config('never', { ...oneDevice, objective: { self_conditioning: 1e-9 } }));
		expectClose(await losses('two-alike'), await losses('one'), { rtol: 1e-5, what: 'losses' });
		const swept = Array.from({ length: 12 }, (_, step) => randomStream(7, 'train.self_conditioning').uniform(step, 0) < 0.5);
		const first = swept.indexOf(true);
		expect(swept).toContain(false);
		const [one, never] = [await losses('one'), await losses('never')];
		// Weights are the same up to the first step with a sweep; the output layer starts at zero, so estimates matter from the second step on.
		expect(one.slice(0, first)).toEqual(never.slice(0, first));
		expect(one).not.toEqual(never);
	});

	it('resumes to the same bits', async () => {
		await trainModel(config('straight'));
		const controller = new AbortController();
		await trainModel(config('stopped'), {
			signal: controller.signal,
			onEvent: (e) => e.kind === 'step' && e.step === 5 && controller.abort(),
		});
		await trainModel(config('stopped'), { resume: true });
		expect(await losses('stopped')).toEqual(await losses('straight'));
		const weights = (name: string) => readFile(join(folder(name), 'pipeline', 'transformer', 'diffusion_pytorch_model.safetensors'));
		expect((await weights('stopped')).equals(await weights('straight'))).toBe(true);
	});

	it('is known to the finished pipeline, which can be drawn from and trained on', async () => {
		const saved = JSON.parse(await readFile(join(folder('straight'), 'pipeline', 'transformer', 'config.json'), 'utf8'));
		expect(saved).toMatchObject({ in_channels: 2, out_channels: 1, _self_conditioning: 1 });
		const pipeline = await createPipeline(folder('straight'));
		const { images, shape } = await pipeline.generate({ labels: [0, 1], steps: 3, guidanceScale: 1.5 });
		await pipeline.close();
		expect(shape).toEqual([2, 1, 8, 8]);
		expect(images.every(Number.isFinite)).toBe(true);
		const model = { type: 'DiTTransformer2DModel', pretrained: folder('straight') };
		const again = readTrainConfig({ ...tinyConfig(tiny.data, folder('again')), model, objective: { self_conditioning: 0.5 } });
		expect((await trainModel({ ...again, train: { ...again.train, max_steps: 2 } })).finished).toBe(true);
	});

	it('feeds the estimate of the step before when drawing', async () => {
		const denoiser = createDenoiser('DiTTransformer2DModel', small);
		const fed: Float32Array[] = [];
		const run = async (inputs: Readonly<Record<string, { readonly data: unknown }>>) => {
			fed.push((inputs.self_cond!.data as Float32Array).slice());
			return { sample: tensor('float32', [1, 1, 4, 4], new Array<number>(16).fill(0.25)) };
		};
		const sampler = createSampler({ _class_name: 'FlowMatchEulerDiscreteScheduler' }, { steps: 3, batch: 1 });
		const start = Float32Array.from({ length: 16 }, (_, k) => k / 4 - 2);
		const predict = predictor({
			denoiser,
			forward: { run: run as never },
			images: 1,
			conditions: {},
			guidanceScale: undefined,
			layout: plainLayout(16),
		});
		await denoiseSamples({ sampler, samples: start, predict, noise: () => new Float32Array(16) });
		expect([...fed[0]!]).toEqual(new Array(16).fill(0));
		// A constant velocity v from x at sigma 1 ends in x - v; what is fed is clipped to the range of pixels.
		const wanted = [...start].map((x) => Math.min(1, Math.max(-1, x - 0.25)));
		for (const later of fed.slice(1)) expectClose(later, wanted, { rtol: 1e-5, atol: 1e-6, what: 'estimate' });
		expect(fed.length).toBe(3);
	});

	it('estimates the clean sample: exact where the prediction is', () => {
		const denoiser = createDenoiser('DiTTransformer2DModel', small);
		const { chain } = denoiser;
		const exact = {
			...chain,
			layers: [{ name: 'exact', build: (ctx, live) => live.set('sample', ctx.g.sub(live.get('noise'), live.get('x0'))) }],
		} as typeof chain;
		const whole = trainingChain(exact, { ...denoiser, globalBatch: 2 });
		expect(whole.inputs.self_cond!.shape).toEqual([1, 4, 4]);
		const of = (shape: readonly number[], value: (k: number) => number) =>
			tensor(
				'float32',
				shape,
				Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, k) => value(k)),
			);
		const image = (value: (k: number) => number) => of([2, 1, 4, 4], value);
		const both = (value: number) => of([2], () => value);
		const clean = image((k) => Math.sin(k) * 1.2);
		const feeds = {
			...{ x0: clean, noise: image((k) => Math.cos(3 * k)), self_cond: image(() => 0), timestep: both(300) },
			...{ signal: both(0.7), spread: both(0.3), target_x0: both(-1), target_noise: both(1), loss_weight: both(1) },
			...{ estimate_sample: both(1), estimate_output: both(-0.3), class_labels: tensor('int64', [2], [0, 1]) },
		};
		const found = evaluateChain({ ...whole, outputs: [x0Estimate] }, 2, new Map(), feeds).get(x0Estimate)!;
		const clipped = (clean.data as Float32Array).map((v) => Math.min(1, Math.max(-1, v)));
		expectClose(found, tensor('float32', clean.shape, clipped), { rtol: 1e-5, atol: 1e-6, what: 'estimate' });
		// Its weights are those of a model of twice the channels, and what is beside the sample counts.
		const measured = evaluationChain(chain, denoiser);
		const weights = seededWeights(referenceOf(trainingChain(chain, { ...denoiser, globalBatch: 2 }), 2).parameters);
		expect(weights.get('pos_embed.proj.weight')!.length).toBe(16 * 2 * 4);
		const loss = (self_cond: typeof clean) => [...evaluateChain(measured, 2, weights, { ...feeds, self_cond }).get('sample_loss')!.data];
		expect(loss(feeds.self_cond)).not.toEqual(loss(image(() => 0.5)));
	});

	it('refuses what it cannot do', async () => {
		expect(() => createDenoiser('DiTTransformer2DModel', { ...small, in_channels: 3 })).toThrow(
			/in_channels: a self-conditioned model takes twice the channels/,
		);
		expect(() => createDenoiser('FluxTransformer2DModel', { _self_conditioning: 1 })).toThrow(/no channels to put others beside/);
		await trainModel(readTrainConfig(tinyConfig(tiny.data, folder('plain'), { train: { max_steps: 1 } })));
		const model = { type: 'DiTTransformer2DModel', pretrained: folder('plain') };
		const widened = { ...tinyConfig(tiny.data, folder('widened')), model, objective: { self_conditioning: 0.5 } };
		await expect(trainModel(readTrainConfig(widened))).rejects.toThrow(/is not self-conditioned/);
	});
});
