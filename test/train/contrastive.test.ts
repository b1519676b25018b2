import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { tensor } from '../../src/core/tensor.ts';
import { openTokenizer, type Tokenizer } from '../../src/io/tokenizer.ts';
import { readCLIPTextConfig } from '../../src/models/clip-text.ts';
import { readCLIPVisionConfig } from '../../src/models/clip-vision.ts';
import { traceChain } from '../../src/nn/chain.ts';
import { learnBytePairs, writeClipTokenizer } from '../../src/train/bpe.ts';
import { readSessionConfig } from '../../src/train/config.ts';
import { contrastiveTrainingChain, splitTowers, trainContrastive } from '../../src/train/contrastive.ts';
import { initialValues } from '../../src/train/parameters.ts';
import { runForward } from '../helpers/fixture.ts';

const tokens = 8;
const rows = ['one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight'];
const captions = rows.map((row) => `line ${row}`);
let root: string;
let images: string;
let tokenizer: Tokenizer;
let config: { text: ReturnType<typeof readCLIPTextConfig>; image: ReturnType<typeof readCLIPVisionConfig> };
beforeAll(async () => {
	root = await mkdtemp(join(tmpdir(), 'contrastive-'));
	images = join(root, 'images');
	await mkdir(images);
	for (const [i, caption] of captions.entries()) {
		await writeFile(join(images, `${i}.txt`), caption);
		const pixels = Uint8Array.from({ length: 64 }, (_, k) => (k >> 3 === i ? 255 : 0));
		await sharp(pixels, { raw: { width: 8, height: 8, channels: 1 } })
			.png()
			.toFile(join(images, `${i}.png`));
	}
	await writeClipTokenizer(join(root, 'tokenizer'), learnBytePairs(captions, 40, 1), tokens);
	tokenizer = await openTokenizer(join(root, 'tokenizer'));
	const tower = { hidden_size: 16, intermediate_size: 32, num_hidden_layers: 1, num_attention_heads: 2, projection_dim: 8 };
	config = {
		text: readCLIPTextConfig({
			...tower,
			vocab_size: tokenizer.vocabularySize,
			max_position_embeddings: tokens,
			eos_token_id: tokenizer.special.eos,
		}),
		image: readCLIPVisionConfig({ ...tower, num_channels: 1, image_size: 8, patch_size: 4 }),
	};
});
afterAll(() => rm(root, { recursive: true }));

describe('contrastiveTrainingChain', () => {
	it('is the symmetric cross-entropy of the scaled cosines within the micro-batch', async () => {
		const chain = contrastiveTrainingChain(config, 12);
		const ids = tokenizer.encode(
			[0, 5, 6].map((i) => captions[i]!),
			{ maxLength: tokens },
		).inputIds;
		const pixels = tensor(
			'float32',
			[3, 1, 8, 8],
			Array.from({ length: 192 }, (_, i) => Math.sin(i * i)),
		);
		const outputs = ['text_embeds', 'image_embeds', 'loss'];
		const found = await runForward({ ...chain, outputs }, (p) => initialValues(p, 5), { input_ids: ids, pixel_values: pixels });
		const embeds = (name: string) => [0, 1, 2].map((i) => [...(found.get(name)!.data as Float32Array).subarray(8 * i, 8 * i + 8)]);
		const [t, v] = [embeds('text_embeds'), embeds('image_embeds')];
		const dot = (a: number[], b: number[]) => a.reduce((s, x, i) => s + x * b[i]!, 0);
		const logit = (i: number, j: number) => dot(t[i]!, v[j]!) / Math.sqrt(dot(t[i]!, t[i]!) * dot(v[j]!, v[j]!)) / 0.07;
		const entropy = (own: number, others: number[]) => Math.log(others.reduce((s, o) => s + Math.exp(o), 0)) - own;
		const each = [0, 1, 2].map(
			(i) =>
				(entropy(
					logit(i, i),
					[0, 1, 2].map((j) => logit(i, j)),
				) +
					entropy(
						logit(i, i),
						[0, 1, 2].map((j) => logit(j, i)),
					)) /
				2,
		);
		expect((found.get('loss')!.data as Float32Array)[0]).toBeCloseTo(each.reduce((a, b) => a + b, 0) / 12, 5);
	});

	it('names its parameters as CLIPModel', () => {
		const roots = new Set([...traceChain(contrastiveTrainingChain(config, 2), 2).parameters.keys()].map((name) => name.split('.')[0]));
		expect([...roots].sort()).toEqual(['logit_scale', 'text_model', 'text_projection', 'vision_model', 'visual_projection']);
	});
});

describe('trainContrastive', () => {
	const options = (steps: number) => ({
		config: readSessionConfig({ train: { max_steps: steps, batch_size: 8, ema_decay: 0 }, optimizer: { lr: 5e-3, weight_decay: 0 } }),
		data: { type: 'folder', path: images, height: 8, width: 8, channels: 1 } as const,
		seed: 1,
	});

	it('learns which caption belongs to which picture', async () => {
		const losses: number[] = [];
		const weights = await trainContrastive(config, tokenizer, { ...options(60), onStep: ({ loss }) => losses.push(loss) });
		// Eight pairs told apart by chance would give ln 8 = 2.08.
		expect(losses[0]).toBeGreaterThan(1.5);
		expect(losses.at(-1)).toBeLessThan(0.5);
		const { text, image, logitScale } = splitTowers(weights);
		expect(text.size + image.size + 1).toBe(weights.size);
		expect([...text.keys()]).toContain('text_projection.weight');
		expect([...image.keys()]).toContain('vision_model.embeddings.class_embedding');
		expect(logitScale).toBeGreaterThan(1 / 0.07);
	});

	it('refuses images of another size', async () => {
		const wrong = { ...options(1), data: { ...options(1).data, width: 16 } };
		await expect(trainContrastive(config, tokenizer, wrong)).rejects.toThrow(/images do not fit the model/);
	});
});
