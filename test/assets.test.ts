import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { openForward } from '../src/engine/local/forward.ts';
import { readModelFolder } from '../src/io/model-folder.ts';
import { openTokenizer } from '../src/io/tokenizer.ts';
import { autoencoderKLDecoderChain, autoencoderKLEncoderChain, readAutoencoderKLConfig } from '../src/models/autoencoder-kl.ts';
import { clipVisionChain, readCLIPVisionConfig } from '../src/models/clip-vision.ts';
import { createEncoder } from '../src/models/encoders.ts';
import { type Chain, traceChain } from '../src/nn/chain.ts';
import { readParameter } from '../src/train/checkpoint.ts';
import { type EmojiOptions, openEmoji } from '../src/train/data/emoji.ts';
import { stackExamples } from '../src/train/data/stack.ts';
import { meanPsnr, retrievalRate } from '../src/train/quality.ts';

const asset = (name: string) => fileURLToPath(new URL(`../assets/${name}`, import.meta.url));

/** Each chain of a model folder run on its inputs in turn: `use` gets what runs a chain with the folder's weights. */
async function withModel<T>(folder: string, use: (config: unknown, run: RunChain) => Promise<T>): Promise<T> {
	const { config, weights } = await readModelFolder(folder);
	const run: RunChain = async (chain, inputs) => {
		const forward = await openForward(chain, { batch: 32 });
		try {
			await forward.setWeights((name, shape) => readParameter(weights, name, shape, folder));
			return await forward.run(inputs);
		} finally {
			await forward.close();
		}
	};
	try {
		return await use(config, run);
	} finally {
		await weights.close();
	}
}
type Run = Awaited<ReturnType<typeof openForward>>['run'];
type RunChain = (chain: Chain, inputs: Parameters<Run>[0]) => ReturnType<Run>;

const pictures = async (options: Omit<EmojiOptions, 'type'>, every: number) =>
	stackExamples(await openEmoji({ type: 'emoji', size: 64, ...options }), every);

describe('assets', () => {
	it('weigh less than 6 MB together', () => {
		const bytes = (folder: string): number =>
			readdirSync(folder, { withFileTypes: true }).reduce((n, entry) => {
				const path = join(folder, entry.name);
				return n + (entry.isDirectory() ? bytes(path) : statSync(path).size);
			}, 0);
		expect(bytes(asset('.'))).toBeLessThan(6e6);
	});

	it.each(['twitter', 'fluent'] as const)('the autoencoder reproduces %s emoji it has not seen to 24 dB', async (style) => {
		const { images: x } = await pictures({ style, split: 'held-out' }, 5);
		const sample = await withModel(asset('emoji-vae'), async (raw, run) => {
			const config = readAutoencoderKLConfig(raw);
			const { mean } = await run(autoencoderKLEncoderChain(config), { x });
			// Scaled, latents are what denoisers expect: about one in size.
			const size = Math.sqrt((mean!.data as Float32Array).reduce((a, v) => a + (v * config.scaling_factor) ** 2, 0) / mean!.data.length);
			expect(size).toBeGreaterThan(0.8);
			expect(size).toBeLessThan(1.25);
			return (await run(autoencoderKLDecoderChain(config), { z: mean! })).sample!;
		});
		expect(meanPsnr(sample.data as Float32Array, x.data, x.shape[0]!)).toBeGreaterThan(24);
	});

	it('captions find pictures drawn by a hand never trained on, ten times as often as chance', async () => {
		const { images, captions } = await pictures({ style: 'google', split: 'all' }, 2);
		const folder = asset('emoji-clip');
		const tokenizer = await openTokenizer(join(folder, 'tokenizer'));
		const text = await withModel(join(folder, 'text_encoder'), async (raw, run) => {
			const { chain } = createEncoder('CLIPTextModelWithProjection', raw);
			return (await run({ ...chain, outputs: ['text_embeds'] }, { input_ids: tokenizer.encode(captions).inputIds })).text_embeds!;
		});
		const image = await withModel(join(folder, 'image_encoder'), async (raw, run) => {
			const chain = clipVisionChain(readCLIPVisionConfig(raw));
			return (await run({ ...chain, outputs: ['image_embeds'] }, { pixel_values: images })).image_embeds!;
		});
		const rate = retrievalRate(text.data as Float32Array, image.data as Float32Array, text.shape[1]!, 5);
		expect(rate).toBeGreaterThan(10 * (5 / captions.length));
	});

	it('hold every parameter of their models and no other, as float16', async () => {
		const models: [string, (raw: unknown) => readonly Chain[]][] = [
			[
				'emoji-vae',
				(raw) => {
					const config = readAutoencoderKLConfig(raw);
					return [autoencoderKLEncoderChain(config), autoencoderKLDecoderChain(config)];
				},
			],
			['emoji-clip/text_encoder', (raw) => [createEncoder('CLIPTextModelWithProjection', raw).chain]],
			['emoji-clip/image_encoder', (raw) => [clipVisionChain(readCLIPVisionConfig(raw))]],
		];
		for (const [name, chainsOf] of models) {
			const { config, weights } = await readModelFolder(asset(name));
			const wanted = chainsOf(config).flatMap((chain) => [...traceChain(chain, 1).parameters.values()]);
			expect([...weights.names].sort(), name).toEqual(wanted.map((p) => p.name).sort());
			for (const p of wanted) expect(weights.info(p.name)).toMatchObject({ dtype: 'float16', shape: p.shape });
			await weights.close();
		}
	});
});
