/** @file Training a ControlNet from a config: the same losses inline, filled and on one device, exact resuming, and a folder that pictures are drawn with. */
import { cpSync, existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { rename } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { sampleToFile, trainingSamples } from '../../../src/generate/index.ts';
import { readModelFolder, readPipelineIndex, writeModelFolder } from '../../../src/io/model-folder.ts';
import { readTrainConfig } from '../../../src/train/config.ts';
import { trainModel } from '../../../src/train/trainer.ts';
import { side, type Tables, type TinyControl, tinyControl } from '../../helpers/tiny-control.ts';
import { readPart, tinyPipelines, writeTinyControlNet } from '../../helpers/tiny-pipelines.ts';

let tiny: TinyControl;
let [root, pipeline, data] = ['', '', ''];
let configOf: TinyControl['configOf'];
let lossesOf: TinyControl['lossesOf'];
beforeAll(async () => {
	tiny = await tinyControl();
	({ root, pipeline, data, configOf, lossesOf } = tiny);
});
afterAll(() => tiny.remove());

const one = { pipeline_stages: 1, partition_method: 'time', partition_split: undefined };

const trained = async (name: string, over: Tables = {}) => {
	await trainModel(configOf(name, { sample: { enabled: false }, ...over }));
	return lossesOf(name);
};
let alone: ReturnType<TinyControl['lossesOf']> = { train: [], heldOut: [] };
const likeAlone = ({ train, heldOut }: typeof alone) => {
	expect([train.length, heldOut.length]).toEqual([4, 2]);
	const found = [...train, ...heldOut];
	[...alone.train, ...alone.heldOut].forEach((loss, i) => {
		expect(Math.abs(found[i]! / loss - 1)).toBeLessThan(2e-5);
	});
};

describe('a ControlNet in training', () => {
	it('has the losses of one device inline and filled, held-out ones among them, which begin at that of the U-Net alone', async () => {
		alone = await trained('alone', { parallel: one, train: { gradient_accumulation_steps: 1 } });
		expect(new Set(alone.train).size).toBe(4);
		likeAlone(await trained('inline'));
		likeAlone(await trained('fill', { frozen: { cache: 'fill' } }));
		// The convolutions to the residuals begin at zero: the first loss is that of the U-Net alone.
		const unet = readTrainConfig({
			...configOf('unet', { train: { max_steps: 1 }, sample: { enabled: false }, parallel: one }),
			model: { type: 'UNet2DConditionModel', pretrained: pipeline },
			vae: { path: join(pipeline, 'vae') },
			text_encoder: { path: join(pipeline, 'text_encoder'), tokenizer: join(pipeline, 'tokenizer') },
		});
		await trainModel(unet);
		expect(Math.abs(lossesOf('unet').train[0]! / alone.train[0]! - 1)).toBeLessThan(2e-5);
	}, 240_000);

	it('goes on after a stop to the losses of a run never stopped, to the bit', async () => {
		const from = async (name: string, copy: string, cache: string) => {
			cpSync(join(root, name), join(root, copy), { recursive: true });
			const resume = join(root, copy, 'checkpoints', 'step-00000002');
			await trainModel(configOf(copy, { sample: { enabled: false }, frozen: { cache } }), { resume });
			return lossesOf(copy);
		};
		expect(await from('inline', 'inline-stopped', 'inline')).toEqual(lossesOf('inline'));
		expect(await from('fill', 'fill-stopped', 'fill')).toEqual(lossesOf('fill'));
		// Beside a U-Net with other weights it would learn something else.
		const other = join(root, 'other-pipeline');
		cpSync(pipeline, other, { recursive: true });
		await rename(pipeline, `${pipeline}-kept`);
		await rename(other, pipeline);
		expect(await from('inline', 'inline-copy', 'inline')).toEqual(lossesOf('inline'));
		const { config, weights } = await readPart(join(pipeline, 'unet'));
		const tensors = [...weights].map(([name, t]) => ({
			...t,
			name,
			data: name === 'conv_out.bias' ? new Float32Array(4).fill(1) : t.data,
		}));
		await writeModelFolder(join(pipeline, 'unet'), config, tensors, { replace: true });
		await expect(from('inline', 'inline-other', 'inline')).rejects.toThrow(/model.pretrained: is another U-Net than when/);
		rmSync(pipeline, { recursive: true });
		await rename(`${pipeline}-kept`, pipeline);
		// The other way of running the frozen parts goes on from it, too.
		likeAlone(await from('fill', 'fill-inline', 'inline'));
	}, 240_000);

	it('begins as a copy of the encoder, and leaves the U-Net as it is', async () => {
		await trained('still', {
			optimizer: { lr: 1e-12, weight_decay: 0 },
			train: { max_steps: 1, ema_decay: 0 },
			eval: { every_steps: 0 },
			parallel: one,
		});
		const saved = await readPart(join(root, 'still', 'pipeline', 'controlnet'));
		const unet = await readPart(join(pipeline, 'unet'));
		expect(saved.config).toMatchObject({
			_class_name: 'ControlNetModel',
			block_out_channels: [16, 32],
			cross_attention_dim: 24,
			conditioning_embedding_out_channels: [8, 16],
		});
		let copied = 0;
		for (const [name, { data: values }] of saved.weights) {
			const source = unet.weights.get(name);
			if (source) copied++;
			const numbers = Array.from(values as Float32Array);
			const close = (wanted: (i: number) => number) => numbers.every((v, i) => Math.abs(v - wanted(i)) < 1e-6);
			if (source) expect(close((i) => Number(source.data[i]))).toBe(true);
			else if (!name.startsWith('controlnet_cond_embedding') || name.includes('conv_out')) expect(close(() => 0)).toBe(true);
			else expect(numbers.some((v) => v !== 0) || name.endsWith('bias')).toBe(true);
		}
		expect(copied).toBeGreaterThan(50);
		const locked = await readPart(join(root, 'still', 'pipeline', 'unet'));
		expect(locked.weights).toEqual(unet.weights);
	}, 240_000);

	it('begins with another ControlNet’s weights where one is named', async () => {
		const controlnet = await writeTinyControlNet(join(root, 'first-control'), { global_pool_conditions: true });
		const {
			train: [loss],
		} = await trained('further', {
			model: { controlnet },
			train: { max_steps: 1 },
			parallel: one,
			eval: { every_steps: 0 },
			frozen: { cache: 'disk', cache_dir: join(root, 'cache') },
		});
		expect(Math.abs(loss! / alone.train[0]! - 1)).toBeGreaterThan(1e-3);
	}, 240_000);
});

describe('a trained ControlNet', () => {
	it('is drawn during training, and with its pipeline afterwards, by its run or beside any copy of it', async () => {
		// It moves to another plan on the way.
		const parallel = { replan_after: 3, replan_gain: -10 };
		const { samples } = await trainModel(configOf('drawn', { frozen: { cache: 'fill' }, parallel }), { samples: trainingSamples });
		likeAlone(lossesOf('drawn'));
		expect(samples).toHaveLength(1);
		const folder = join(root, 'drawn');
		expect(readdirSync(join(folder, 'samples')).sort()).toEqual([...[0, 1, 2, 3].map((i) => `conditioning-${i}.png`), 'step-00000004.png']);
		for (const file of ['plan.json', 'profile.json']) expect(existsSync(join(folder, file))).toBe(true);
		const index = await readPipelineIndex(join(folder, 'pipeline'));
		expect(index.className).toBe('StableDiffusionControlNetPipeline');
		expect(index.parts).toMatchObject({ controlnet: ['diffusers', 'ControlNetModel'], unet: ['diffusers', 'UNet2DConditionModel'] });
		const average = await readModelFolder(join(folder, 'checkpoints', 'step-00000004', 'controlnet_ema'));
		await average.weights.close();

		const controlImage = join(folder, 'samples', 'conditioning-0.png');
		const draw = (name: string, from: string, more: object = {}) =>
			sampleToFile({
				folder: from,
				prompts: ['ab'],
				steps: 2,
				guidanceScale: 2,
				height: side,
				width: side,
				output: join(root, name),
				controlImage,
				...more,
			});
		await draw('own.png', folder);
		await draw('beside.png', pipeline, { controlNet: join(folder, 'pipeline', 'controlnet') });
		await draw('run.png', pipeline, { controlNet: folder });
		const own = readFileSync(join(root, 'own.png'));
		expect(readFileSync(join(root, 'beside.png')).equals(own)).toBe(true);
		expect(readFileSync(join(root, 'run.png')).equals(own)).toBe(true);
		await draw('weak.png', folder, { controlScale: 0 });
		expect(readFileSync(join(root, 'weak.png')).equals(own)).toBe(false);
	}, 240_000);
});

describe('what cannot be trained is refused before anything is', () => {
	const refused = (over: Tables) =>
		trainModel(configOf('refused', over), {
			overwrite: true,
			onEvent: (event) => {
				if (event.kind === 'plan' || event.kind === 'step') throw new Error('work has begun');
			},
		});

	it.each<[string, Tables, RegExp]>([
		['no U-Net', { model: { pretrained: undefined } }, /model.pretrained: there is no U-Net to control/],
		['no such pipeline', { model: { pretrained: '/nowhere/at all' } }, /\/nowhere\/at all: there is no such folder/],
		['no such ControlNet', { model: { controlnet: '/nowhere/at all' } }, /\/nowhere\/at all: there is no such folder/],
		[
			'data without conditioning pictures',
			{ data: { type: 'mnist', path: undefined, height: undefined, width: undefined } },
			/data.type: there are no conditioning/,
		],
		['blocks that do not fit', { model: { layers_per_block: 2 } }, /the ControlNet does not fit the U-Net[\s\S]*residuals/],
		['channels that do not fit', { model: { block_out_channels: [16, 64] } }, /the ControlNet does not fit the U-Net[\s\S]*\[32, /],
		[
			'pictures of another size',
			{ model: { conditioning_embedding_out_channels: [8, 16, 32] } },
			/conditioning pictures do not fit[\s\S]*\[3, 32, 32\]/,
		],
		['grey conditioning pictures', { model: { conditioning_channels: 1 } }, /conditioning pictures do not fit[\s\S]*\[1, 16, 16\]/],
		['LoRA', { lora: { rank: 4 } }, /lora.rank: a ControlNet is trained whole/],
		['self-conditioning', { objective: { self_conditioning: 0.5 } }, /objective.self_conditioning: a ControlNet/],
		['prompts without pictures', { sample: { prompts: ['ab'] } }, /sample.conditioning_images: needs one picture for each prompt/],
	])('%s', async (_, over, message) => {
		await expect(refused(over)).rejects.toThrow(message);
	});

	it('a folder of images without pictures beside them', async () => {
		const bare = join(root, 'bare');
		cpSync(join(data, 'edges'), bare, { recursive: true });
		await expect(refused({ data: { path: bare } })).rejects.toThrow(
			/an image has no conditioning picture[\s\S]*conditioning_image_file_name/,
		);
	});

	it('a pipeline of another model, or without a text encoder', async () => {
		const pixart = await tinyPipelines(root)('pixart');
		await expect(refused({ model: { pretrained: pixart } })).rejects.toThrow(/model.pretrained|config.json/);
		await expect(refused({ model: { pretrained: await tinyPipelines(root)('sdxl') } })).rejects.toThrow(
			/input that ControlNet training does not give[\s\S]*text_embeds/,
		);
		const unet = join(root, 'unet-alone');
		cpSync(join(pipeline, 'unet'), unet, { recursive: true });
		await expect(refused({ model: { pretrained: unet } })).rejects.toThrow(/text_encoder.path: there is no text encoder/);
	});
});
