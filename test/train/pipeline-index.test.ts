/** @file The pipelines that trained models are saved as: diffusers' classes with every part that they ask for, and our own reader's view of them. */
import { mkdtempSync, rmSync } from 'node:fs';
import { cp, readdir, readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { createPipeline, type GenerateOptions, sampleToFile } from '../../src/generate/index.ts';
import { readJsonObject, writeJson } from '../../src/io/json-file.ts';
import { readPipelineIndex } from '../../src/io/model-folder.ts';
import { createDenoiser, denoisers } from '../../src/models/index.ts';
import { readTrainConfig } from '../../src/train/config.ts';
import { recipes, savedIndex } from '../../src/train/pipeline-index.ts';
import { trainModel } from '../../src/train/trainer.ts';

const root = mkdtempSync(join(tmpdir(), 'pipeline-index-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

/** Parameters of the constructors in diffusers (src/diffusers/pipelines at 58eb52c), those for parts. */
const constructors: Readonly<Record<string, readonly string[]>> = {
	DiTPipeline: ['transformer', 'vae', 'scheduler'],
	DDPMPipeline: ['unet', 'scheduler'],
	DDIMPipeline: ['unet', 'scheduler'],
	LDMPipeline: ['vqvae', 'unet', 'scheduler'],
	StableDiffusionPipeline: [
		...['vae', 'text_encoder', 'tokenizer', 'unet', 'scheduler'],
		...['safety_checker', 'feature_extractor', 'image_encoder'],
	],
	PixArtAlphaPipeline: ['tokenizer', 'text_encoder', 'vae', 'transformer', 'scheduler'],
	PixArtSigmaPipeline: ['tokenizer', 'text_encoder', 'vae', 'transformer', 'scheduler'],
	StableDiffusion3Pipeline: [
		...['transformer', 'scheduler', 'vae', 'text_encoder', 'tokenizer', 'text_encoder_2', 'tokenizer_2'],
		...['text_encoder_3', 'tokenizer_3', 'image_encoder', 'feature_extractor'],
	],
	FluxPipeline: [
		...['scheduler', 'vae', 'text_encoder', 'tokenizer', 'text_encoder_2', 'tokenizer_2', 'transformer'],
		...['image_encoder', 'feature_extractor'],
	],
};

const text = { encoder: 'CLIPTextModel', tokenizer: 'CLIPTokenizer' };
const saved = (className: string, over: object = {}) =>
	savedIndex({
		part: className.startsWith('UNet') ? 'unet' : 'transformer',
		model: { className, config: {} },
		scheduler: 'DDPMScheduler',
		vae: true,
		text,
		classes: undefined,
		...over,
	});

describe('savedIndex', () => {
	it('knows a pipeline for every denoiser', () => {
		expect(Object.keys(recipes).sort()).toEqual([...Object.keys(denoisers), 'ControlNetModel'].sort());
	});

	it.each(
		Object.keys(denoisers).flatMap((name) => [
			[name, true],
			[name, false],
		]) as [string, boolean][],
	)('names the parts that the class for %s takes (frozen parts: %s)', (name, frozen) => {
		const { index } = saved(name, frozen ? {} : { vae: false, text: undefined });
		expect(Object.keys(index.parts).sort()).toEqual([...constructors[index.className]!].sort());
	});

	it('tells the pipelines of one denoiser apart', () => {
		const className = (name: string, over: object) => saved(name, over).index.className;
		expect(className('UNet2DModel', { vae: false })).toBe('DDPMPipeline');
		expect(className('UNet2DModel', { vae: false, scheduler: 'DDIMScheduler' })).toBe('DDIMPipeline');
		const pixart = (config: object) => className('PixArtTransformer2DModel', { model: { className: 'PixArtTransformer2DModel', config } });
		expect(pixart({ sample_size: 128, use_additional_conditions: false })).toBe('PixArtSigmaPipeline');
		expect(pixart(createDenoiser('PixArtTransformer2DModel', { sample_size: 128 }).config)).toBe('PixArtAlphaPipeline');
		expect(pixart({ sample_size: 64, use_additional_conditions: false })).toBe('PixArtAlphaPipeline');
	});

	it('gives names of classes to models of labels, and texts to models of texts', () => {
		const both = { classes: ['owl', 'fox'] };
		expect(saved('DiTTransformer2DModel', both)).toMatchObject({
			text: undefined,
			index: { options: { id2label: { 0: 'owl', 1: 'fox' } } },
		});
		expect(saved('UNet2DConditionModel', both).index).toMatchObject({
			parts: { text_encoder: ['transformers', 'CLIPTextModel'], tokenizer: ['transformers', 'CLIPTokenizer'], safety_checker: null },
			options: { requires_safety_checker: false, _text_states: 'last_hidden_state' },
		});
	});
});

const assets = {
	vae: { path: 'assets/emoji-vae' },
	text_encoder: { path: 'assets/emoji-clip/text_encoder', tokenizer: 'assets/emoji-clip/tokenizer' },
};

/** Trains for a few steps and returns the folder of the finished pipeline. */
async function trained(name: string, tables: Readonly<Record<string, object>>): Promise<string> {
	const { pipeline } = await trainModel(
		readTrainConfig({
			output_dir: join(root, name),
			data: { type: 'emoji', categories: ['Food & Drink'], size: 32 },
			train: { max_steps: 3, batch_size: 2, ema_decay: 0 },
			optimizer: { lr: 0.02 },
			parallel: { partition_method: 'manual', partition_split: [] },
			log: { tensorboard: false },
			vae: assets.vae,
			...tables,
		}),
	);
	return pipeline!;
}

async function drawn(folder: string, options: GenerateOptions): Promise<Float32Array> {
	const pipeline = await createPipeline(folder, { threads: 1 });
	try {
		const { images, shape } = await pipeline.generate(options);
		expect(shape).toEqual([1, 3, 32, 32]);
		return images;
	} finally {
		await pipeline.close();
	}
}

describe('a saved pipeline', () => {
	const pixart = {
		model: {
			type: 'PixArtTransformer2DModel',
			sample_size: 8,
			num_attention_heads: 2,
			attention_head_dim: 8,
			num_layers: 1,
			cross_attention_dim: 16,
			caption_channels: 96,
		},
		scheduler: { type: 'DDIMScheduler' },
		text_encoder: assets.text_encoder,
		sample: { steps: 3, guidance_scale: 2 },
	};

	it('is complete, draws as its run did, and draws the same when it is one of before', async () => {
		const folder = await trained('texts', pixart);
		const index = await readPipelineIndex(folder);
		expect(index.className).toBe('PixArtAlphaPipeline');
		for (const [name, part] of Object.entries(index.parts)) expect(part, name).not.toBe(null);
		expect((await readdir(folder)).sort()).toEqual([...Object.keys(index.parts), 'model_index.json', 'sample_config.json'].sort());
		expect(index.parts.text_encoder).toEqual(['transformers', 'CLIPTextModelWithProjection']);
		expect(await readdir(join(folder, 'text_encoder'))).toEqual(expect.arrayContaining(['config.json', 'model.safetensors']));
		expect(await readdir(join(folder, 'tokenizer'))).toEqual(expect.arrayContaining(['vocab.json', 'merges.txt', 'tokenizer_config.json']));
		expect(await readdir(join(folder, 'vae'))).toEqual(expect.arrayContaining(['config.json', 'diffusion_pytorch_model.safetensors']));
		expect(await readJsonObject(join(folder, 'sample_config.json'))).toEqual({ steps: 3, guidance_scale: 2 });

		const prompts = ['lemon'];
		const now = await drawn(folder, { prompts });
		expect(await drawn(folder, { prompts, steps: 3, guidanceScale: 2 })).toEqual(now);
		expect(await drawn(folder, { prompts, guidanceScale: 4 })).not.toEqual(now);
		expect(await drawn(folder, { prompts, steps: 2 })).not.toEqual(now);

		// As folders were before: one class for all models of texts, and no settings of the run.
		const before = join(root, 'before');
		await cp(folder, before, { recursive: true });
		rmSync(join(before, 'sample_config.json'));
		const { _text_states: _, ...old } = await readJsonObject(join(folder, 'model_index.json'));
		await writeJson(join(before, 'model_index.json'), { ...old, _class_name: 'StableDiffusionPipeline' });
		expect(await drawn(before, { prompts, steps: 3, guidanceScale: 2 })).toEqual(now);
		const [published, spelled] = [
			await drawn(before, { prompts, steps: 3 }),
			await drawn(before, { prompts, steps: 3, guidanceScale: 7.5 }),
		];
		expect(published).toEqual(spelled);
	});

	it('says which settings of its run it takes, and refuses those that mean nothing', async () => {
		const folder = await trained('settings', { ...pixart, sample: { steps: 2, guidance_scale: 3 } });
		const notes: string[] = [];
		const options = { folder, prompts: ['lemon'], output: join(root, 'a.png') };
		const onEvent = (event: { readonly kind: string; readonly text?: string }) => event.kind === 'note' && notes.push(event.text!);
		await sampleToFile({ ...options, onEvent });
		expect(notes).toContain('2 steps, guidance scale 3: as its run drew');
		notes.length = 0;
		await sampleToFile({ ...options, steps: 1, onEvent });
		expect(notes).toContain('guidance scale 3: as its run drew');
		await writeJson(join(folder, 'sample_config.json'), { steps: 2.5 });
		await expect(sampleToFile(options)).rejects.toThrow(/sample_config.json: steps[\s\S]*a whole number above 0[\s\S]*2.5/);
	});

	it('calls the autoencoder of a U-Net of latents as LDMPipeline does', async () => {
		const folder = await trained('latents', {
			model: {
				type: 'UNet2DModel',
				sample_size: 8,
				in_channels: 4,
				out_channels: 4,
				block_out_channels: [8, 8],
				down_block_types: ['DownBlock2D', 'DownBlock2D'],
				up_block_types: ['UpBlock2D', 'UpBlock2D'],
				norm_num_groups: 4,
				layers_per_block: 1,
			},
			scheduler: { type: 'DDPMScheduler' },
			sample: { steps: 2 },
		});
		const { className, parts } = await readPipelineIndex(folder);
		expect([className, parts.vqvae, parts.vae]).toEqual(['LDMPipeline', ['diffusers', 'AutoencoderKL'], undefined]);
		expect((await readFile(join(folder, 'vqvae', 'config.json'))).length).toBeGreaterThan(2);
		expect((await drawn(folder, {})).every(Number.isFinite)).toBe(true);
	});
});
