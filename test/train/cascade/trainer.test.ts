import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { cascadeSamples, sampleCascade } from '../../../src/generate/cascade.ts';
import { createPipeline } from '../../../src/generate/index.ts';
import { backboneNames, readCascadeConfig } from '../../../src/train/cascade/config.ts';
import type { CascadeEvent } from '../../../src/train/cascade/events.ts';
import { createCascade } from '../../../src/train/cascade/models.ts';
import { trainCascade } from '../../../src/train/cascade/trainer.ts';
import { openLoader } from '../../../src/train/data/loader.ts';
import { downsampled, upsampled } from '../../../src/train/resize.ts';
import { hyperOf, openSession } from '../../../src/train/session.ts';
import { expectClose } from '../../helpers/close.ts';

// Machines are shared.
vi.setConfig({ testTimeout: 240_000 });

let root: string;
beforeAll(async () => {
	root = await mkdtemp(join(tmpdir(), 'cascade-'));
});
afterAll(() => rm(root, { recursive: true, force: true }));

const unet = (sample_size: number) => ({
	type: 'UNet2DModel',
	sample_size,
	in_channels: 3,
	out_channels: 3,
	block_out_channels: [8, 8],
	layers_per_block: 1,
	norm_num_groups: 4,
	attention_head_dim: 8,
	down_block_types: ['DownBlock2D', 'DownBlock2D'],
	up_block_types: ['UpBlock2D', 'UpBlock2D'],
	add_attention: false,
});

const raw = (name: string, over: Record<string, Record<string, unknown>> = {}): Record<string, unknown> => ({
	output_dir: join(root, name),
	seed: 5,
	model: unet(16),
	scheduler: { type: 'DDPMScheduler' },
	data: { type: 'emoji', size: 64, categories: ['Food & Drink'] },
	train: { max_steps: 4, batch_size: 4, gradient_accumulation_steps: 2, ema_decay: 0.9, ...over.train },
	optimizer: { lr: 1e-3 },
	parallel: { pipeline_stages: 2, partition_method: 'manual', partition_split: [4], ...over.parallel },
	sample: { enabled: false, steps: 2, per_label: 1, ...over.sample },
	super_resolution: {
		model: unet(64),
		scheduler: { type: 'FlowMatchEulerDiscreteScheduler' },
		optimizer: { lr: 2e-3 },
		partition_split: [5],
		...over.super_resolution,
	},
});

async function lossesOf(name: string, over?: Record<string, Record<string, unknown>>) {
	const config = readCascadeConfig(raw(name, over));
	const losses = { base: [] as number[], super_resolution: [] as number[] };
	const norms = { base: [] as number[], super_resolution: [] as number[] };
	const result = await trainCascade(config, {
		onEvent(event: CascadeEvent) {
			if (event.kind !== 'step') return;
			for (const backbone of backboneNames) {
				losses[backbone].push(event.losses[backbone]);
				norms[backbone].push(event.gradNorms[backbone]);
			}
		},
		samples: cascadeSamples,
	});
	return { config, losses, norms, result };
}

describe('trainCascade', () => {
	it('trains both models on two devices as each is trained alone on one', async () => {
		const { config, losses, norms } = await lossesOf('two');
		const { base } = config;
		const loader = await openLoader(base.data as never, { seed: base.seed, batchSize: base.train.batch_size });
		const cascade = createCascade(config, loader.info);
		for (const name of backboneNames) {
			const { train, optimizer, parallel, seed } = config[name];
			const alone = { train, optimizer, parallel: { ...parallel, pipeline_stages: 1, partition_split: [], pipeline_schedule: '1f1b' } };
			const session = await openSession(cascade.parts[name].chain, alone, { average: true, seed });
			for (let step = 0; step < 4; step++) {
				const feeds = cascade.feeds(await loader.batchAt(step))[name];
				const { loss, gradNorm } = await session.step(feeds, hyperOf(alone, step).hyper);
				expectClose([losses[name][step]!], [loss], { rtol: 1e-5, what: `${name}, loss of step ${step}` });
				expectClose([norms[name][step]!], [gradNorm], { rtol: 1e-4, what: `${name}, gradient norm of step ${step}` });
			}
			await session.close();
		}
		await loader.close();
		const lines = (await readFile(join(root, 'two', 'metrics.jsonl'), 'utf8')).trim().split('\n');
		expect(JSON.parse(lines[3]!)).toMatchObject({
			step: 4,
			base: { lr: 1e-3 },
			super_resolution: { loss: losses.super_resolution[3], lr: 2e-3 },
		});
	});

	it('cuts by measured times, draws, and leaves pipelines to draw from', async () => {
		const over = {
			train: { max_steps: 2 },
			parallel: { partition_method: 'time', partition_split: undefined },
			sample: { enabled: true, labels: [0, 1] },
			super_resolution: { partition_split: undefined },
		};
		const { result, losses } = await lossesOf('measured', over);
		expect(result).toMatchObject({ step: 2, finished: true, samples: [join(root, 'measured', 'samples', 'step-00000002.png')] });
		expectClose(
			losses.base,
			(
				await lossesOf('one device', {
					train: { max_steps: 2 },
					parallel: { pipeline_stages: 1, partition_split: [] },
					super_resolution: { partition_split: [] },
				})
			).losses.base,
			{ rtol: 1e-5, what: 'losses' },
		);
		const { small, large } = await sampleCascade(join(root, 'measured'), { labels: [0, 1, 2], steps: 2 });
		expect([small.shape, large.shape]).toEqual([
			[3, 3, 16, 16],
			[3, 3, 64, 64],
		]);
		const again = await sampleCascade(join(root, 'measured'), { labels: [0], steps: 2 });
		expectClose(again.large.images, large.images.subarray(0, 3 * 64 * 64), { rtol: 1e-4, atol: 1e-5, what: 'the first image' });
		// As any pipeline it draws large ones.
		const whole = await createPipeline(join(root, 'measured'));
		const drawn = await whole.generate({ labels: [0], steps: 2 });
		await whole.close();
		expect(drawn.shape).toEqual([1, 3, 64, 64]);
		expectClose(drawn.images, again.large.images, { rtol: 1e-4, atol: 1e-5, what: 'the first large image' });
		await expect(createPipeline(join(root, 'measured', 'pipeline', 'super_resolution'))).rejects.toThrow(/low_resolution/);
	});

	it('is told the small image: another one gives another large one', async () => {
		const config = readCascadeConfig(raw('told'));
		const info = { name: 'ramps', size: 1, channels: 3, height: 64, width: 64, classes: undefined, licence: '' };
		const { feeds, factor } = createCascade({ ...config, condition_noise: 0 }, info);
		expect(factor).toBe(4);
		const images = Float32Array.from({ length: 4 * 3 * 64 * 64 }, (_, k) => ((k % 64) - 31.5) / 32);
		const batch = { step: 0, height: 64, width: 64, images, labels: new Int32Array(4), captions: [], names: [], mirrored: [] };
		const { base, super_resolution } = feeds(batch);
		expect(base.x0!.shape).toEqual([4, 3, 16, 16]);
		expect([...(base.x0!.data as Float32Array).subarray(0, 16)]).toEqual(Array.from({ length: 16 }, (_, k) => (4 * k + 1.5 - 31.5) / 32));
		// A ramp is enlarged to itself but for the outer half of the outer pixels.
		const told = super_resolution.low_resolution!;
		expect(told.shape).toEqual([4, 3, 64, 64]);
		expectClose((told.data as Float32Array).subarray(2, 62), images.subarray(2, 62), { rtol: 1e-6, atol: 1e-6, what: 'ramp' });
		expect(super_resolution.noise!.data.subarray(0, 8)).not.toEqual(base.noise!.data.subarray(0, 8));
	});

	it('refuses what it cannot train', async () => {
		expect(() => readCascadeConfig({ ...raw('a'), super_resolution: undefined })).toThrow(/super_resolution/);
		const { super_resolution: _, ...plain } = raw('a');
		expect(() => readCascadeConfig(plain)).toThrow(/is no cascade[\s\S]*\[super_resolution.model\]/);
		expect(() => readCascadeConfig(raw('a', { parallel: { pipeline_schedule: '1f1b' } }))).toThrow(/expected: bidirectional/);
		expect(() => readCascadeConfig({ ...raw('a'), vae: { path: 'assets/emoji-vae' } })).toThrow(/vae.path: is not for cascades/);
		const adapted = { ...raw('a'), model: { ...unet(16), pretrained: 'runs/a' }, lora: { rank: 4 } };
		expect(() => readCascadeConfig(adapted)).toThrow(/lora.rank: is not for cascades/);
		const folded = { placement: 'folded', partition_method: 'time', partition_split: undefined };
		expect(() => readCascadeConfig(raw('a', { parallel: folded }))).toThrow(/parallel.placement: is not for cascades/);
		expect(() => readCascadeConfig(raw('a', { super_resolution: { optimizer: { lr: -1 } } }))).toThrow(/super_resolution.optimizer.lr/);
		const large = readCascadeConfig(raw('a', { super_resolution: { model: unet(48) } }));
		await expect(trainCascade(large)).rejects.toThrow(/super_resolution.model: the images do not fit[\s\S]*expected: \[3, 64, 64\]/);
		const few = readCascadeConfig({ ...raw('d'), data: { type: 'emoji', size: 64 }, model: { ...unet(16), num_class_embeds: 3 } });
		await expect(trainCascade(few)).rejects.toThrow(/more classes than the model[\s\S]*8 classes/);
		const odd = readCascadeConfig({ ...raw('b'), model: unet(24) });
		await expect(trainCascade(odd)).rejects.toThrow(/the sizes of the models do not fit[\s\S]*64 \/ n/);
		const deep = readCascadeConfig(raw('c', { parallel: { pipeline_stages: 99, partition_method: 'time', partition_split: undefined } }));
		await expect(trainCascade(deep)).rejects.toThrow(/more stages than layers of base/);
	});

	it('resumes to the same bits as a run never stopped', async () => {
		const controller = new AbortController();
		const result = await trainCascade(readCascadeConfig(raw('stopped')), {
			signal: controller.signal,
			onEvent: (event) => event.kind === 'step' && controller.abort(),
		});
		expect(result).toMatchObject({ step: 1, finished: false, pipeline: undefined });
		const other = readCascadeConfig(raw('stopped', { super_resolution: { optimizer: { lr: 1 } } }));
		await expect(trainCascade(other, { resume: true })).rejects.toThrow(/super_resolution.optimizer.lr: 0.002 -> 1/);
		expect(await trainCascade(readCascadeConfig(raw('stopped')), { resume: true })).toMatchObject({ step: 4, finished: true });
		// The run of the first test.
		for (const part of ['unet', 'super_resolution/unet']) {
			const weights = (name: string) => readFile(join(root, name, 'pipeline', part, 'diffusion_pytorch_model.safetensors'));
			expect((await weights('stopped')).equals(await weights('two')), part).toBe(true);
		}
		// Longer, and on other devices.
		const longer = raw('two', {
			train: { max_steps: 5 },
			parallel: { pipeline_stages: 1, partition_split: [] },
			super_resolution: { partition_split: [] },
		});
		expect(await trainCascade(readCascadeConfig(longer), { resume: true })).toMatchObject({ step: 5, finished: true });
		const changed = readCascadeConfig({ ...longer, optimizer: { lr: 1e-2 } });
		expect(await trainCascade(changed, { resume: true, allowConfigChange: true })).toMatchObject({ step: 5, finished: true });
	});

	it('saves neither model when one is no longer finite, and refuses a damaged checkpoint, naming the one before', async () => {
		const one = { parallel: { pipeline_stages: 1, partition_split: [] }, super_resolution: { partition_split: [] } };
		const saving = (steps: number, own = {}) =>
			readCascadeConfig({
				...raw('poisoned', { ...one, train: { max_steps: steps }, super_resolution: { ...one.super_resolution, ...own } }),
				checkpoint: { every_steps: 1, keep_last: 0 },
			});
		await trainCascade(saving(2));
		const checkpoints = join(root, 'poisoned', 'checkpoints');
		const at = (step: number) => join(checkpoints, 'base', `step-0000000${step}`);
		const poisoned = trainCascade(saving(3, { optimizer: { lr: 1e39 } }), { resume: true, allowConfigChange: true });
		await expect(poisoned).rejects.toThrow(
			new RegExp(`super_resolution, step 3, parameter .*no longer finite[^]*lower super_resolution.optimizer.lr[^]*--resume ${at(2)} `),
		);
		for (const name of backboneNames) expect(await readdir(join(checkpoints, name))).toHaveLength(2);
		const damaged = join(checkpoints, 'super_resolution', 'step-00000002', 'training', 'optimizer.safetensors');
		const bytes = await readFile(damaged);
		bytes[bytes.length - 3]! ^= 1;
		await writeFile(damaged, bytes);
		await expect(trainCascade(saving(3), { resume: true })).rejects.toThrow(new RegExp(`${damaged}: is damaged[^]*--resume ${at(1)}`));
	});
});

describe('resizing', () => {
	it('shrinks by means and enlarges between centres', () => {
		expect([...downsampled(Float32Array.of(0, 2, 4, 6, 1, 3, 5, 7), 2, 4, 2)]).toEqual([1.5, 5.5]);
		expect([...upsampled(Float32Array.of(0, 4), 1, 2, 2)]).toEqual([0, 1, 3, 4, 0, 1, 3, 4]);
	});
});
