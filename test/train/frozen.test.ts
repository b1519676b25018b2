import { mkdtempSync, rmSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, it } from 'vitest';
import { createPipeline, trainingSamples } from '../../src/generate/index.ts';
import { readTrainConfig } from '../../src/train/config.ts';
import { openFrozenText, openFrozenVae } from '../../src/train/frozen.ts';
import { trainModel } from '../../src/train/trainer.ts';

const root = mkdtempSync(join(tmpdir(), 'frozen-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

const asset = (name: string) => fileURLToPath(new URL(`../../assets/${name}`, import.meta.url));
const options = { devices: 1, batch: 2, threads: 1 };

it('encodes a text to the same states and projection whatever is encoded with it, before it or after', async () => {
	const text = await openFrozenText(asset('emoji-clip/text_encoder'), asset('emoji-clip/tokenizer'), options);
	try {
		expect([text.states, text.pooled]).toEqual([[24, 96], 64]);
		const alone = await text.encode(['lemon']);
		const { encoder_hidden_states: states, pooled_projections: pooled } = await text.encode(['red apple', 'lemon', 'lemon', '']);
		expect([states!.length, pooled!.length]).toEqual([4 * 24 * 96, 4 * 64]);
		for (const i of [1, 2]) {
			expect(states!.subarray(i * 24 * 96, (i + 1) * 24 * 96)).toEqual(alone.encoder_hidden_states);
			expect(pooled!.subarray(i * 64, (i + 1) * 64)).toEqual(alone.pooled_projections);
		}
		expect(pooled!.subarray(0, 64)).not.toEqual(alone.pooled_projections);
		// As when pictures are drawn while a step is prepared.
		const [one, other] = await Promise.all([text.encode(['dog face']), text.encode(['cat face'])]);
		expect(one.encoder_hidden_states).not.toEqual(other.encoder_hidden_states);
	} finally {
		await text.close();
	}
});

it('draws latents of a picture anew each step, round one mean', async () => {
	const open = () => openFrozenVae(asset('emoji-vae'), { height: 16, width: 16 }, 0, options);
	const [vae, fresh] = [await open(), await open()];
	try {
		const pictures = Float32Array.from({ length: 3 * 3 * 16 * 16 }, (_, i) => Math.sin(i / 7));
		const keys = ['a', 'b', 'c'];
		const [first, second] = [await vae.encode(pictures, keys, 0), await vae.encode(pictures, keys, 1)];
		expect(second).not.toEqual(first);
		const apart = Math.max(...first.map((v, i) => Math.abs(v - second[i]!)));
		expect(apart).toBeLessThan(0.5);
		expect(await fresh.encode(pictures, keys, 1)).toEqual(second);
		// A picture known already is not encoded again, whatever is given for it.
		expect(await vae.encode(new Float32Array(pictures.length), keys, 1)).toEqual(second);
	} finally {
		await vae.close();
		await fresh.close();
	}
});

it('trains a model of captions on frozen parts, to a pipeline that draws what it is told', async () => {
	const folder = join(root, 'run');
	const config = readTrainConfig({
		output_dir: folder,
		model: {
			type: 'SD3Transformer2DModel',
			sample_size: 8,
			patch_size: 4,
			in_channels: 4,
			out_channels: 4,
			num_layers: 2,
			num_attention_heads: 2,
			attention_head_dim: 8,
			joint_attention_dim: 96,
			caption_projection_dim: 16,
			pooled_projection_dim: 64,
			pos_embed_max_size: 2,
		},
		scheduler: { type: 'FlowMatchEulerDiscreteScheduler', shift: 3 },
		data: { type: 'emoji', categories: ['Food & Drink'], size: 32 },
		vae: { path: 'assets/emoji-vae' },
		text_encoder: { path: 'assets/emoji-clip/text_encoder', tokenizer: 'assets/emoji-clip/tokenizer' },
		train: { max_steps: 2, batch_size: 4, flip: true },
		parallel: { pipeline_stages: 2 },
		sample: { steps: 2, guidance_scale: 2, prompts: ['lemon', 'red apple'], per_label: 1 },
		log: { tensorboard: false },
	});
	const result = await trainModel(config, { samples: trainingSamples });
	expect(result.finished).toBe(true);
	expect((await readFile(result.samples[0]!)).subarray(1, 4).toString()).toBe('PNG');
	const pipeline = await createPipeline(folder);
	try {
		const { images, shape } = await pipeline.generate({ prompts: ['lemon'], steps: 2, guidanceScale: 2 });
		expect(shape).toEqual([1, 3, 32, 32]);
		expect(images.every(Number.isFinite)).toBe(true);
	} finally {
		await pipeline.close();
	}
	const wrong = { ...config, model: { ...config.model, pooled_projection_dim: 32 }, output_dir: join(root, 'wrong') };
	await expect(trainModel(wrong)).rejects.toThrow(/the projected text does not fit the model\n.*\[32\][\s\S]*\[64\]/);
});
