/**
 * @file Makes assets/emoji-vae, an AutoencoderKL for 64 x 64 emoji, and prints what assets/README.md says of it. After `npm run build`:
 *
 *   node scripts/make-vae.mjs [steps] [folder]
 */
import { fileURLToPath } from 'node:url';
import { openForward } from '../dist/engine/local/forward.js';
import { toFloat32 } from '../dist/io/half.js';
import { writeModelFolder } from '../dist/io/model-folder.js';
import { autoencoderKLDecoderChain, autoencoderKLEncoderChain, readAutoencoderKLConfig } from '../dist/models/autoencoder-kl.js';
import { trainAutoencoder } from '../dist/train/autoencoder.js';
import { readSessionConfig } from '../dist/train/config.js';
import { openDataSet } from '../dist/train/data/index.js';
import { stackExamples } from '../dist/train/data/stack.js';
import { halfWeights } from '../dist/train/fit.js';
import { meanPsnr } from '../dist/train/quality.js';
import { progress } from './lib/progress.mjs';

const [, , steps = '2500', folder = fileURLToPath(new URL('../assets/emoji-vae', import.meta.url))] = process.argv;

const raw = {
	_class_name: 'AutoencoderKL',
	act_fn: 'silu',
	block_out_channels: [16, 32, 64],
	down_block_types: ['DownEncoderBlock2D', 'DownEncoderBlock2D', 'DownEncoderBlock2D'],
	in_channels: 3,
	latent_channels: 4,
	layers_per_block: 1,
	mid_block_add_attention: true,
	norm_num_groups: 8,
	out_channels: 3,
	sample_size: 64,
	up_block_types: ['UpDecoderBlock2D', 'UpDecoderBlock2D', 'UpDecoderBlock2D'],
	use_post_quant_conv: true,
	use_quant_conv: true,
};
const emoji = { type: 'emoji', style: 'both', size: 64 };
const config = readSessionConfig({
	train: { max_steps: Number(steps), batch_size: 8, flip: true, ema_decay: 0.998 },
	optimizer: { lr: 2e-3, betas: [0.9, 0.99], weight_decay: 0, lr_scheduler: 'cosine', warmup_steps: 50, min_lr_ratio: 0.02 },
	parallel: { data_parallel: 2 },
});
const model = readAutoencoderKLConfig(raw);
const objective = { l1Weight: 1, mseWeight: 2, klWeight: 1e-4 };
const report = progress(config.train.max_steps);
const weights = halfWeights(
	await trainAutoencoder(model, objective, { config, data: { ...emoji, split: 'train' }, seed: 0, onStep: report }),
);
console.log(report.summary());

// What is judged are the weights as saved.
const byName = new Map(weights.map((w) => [w.name, w]));
const open = async (chain) => {
	const forward = await openForward(chain, { devices: 2 });
	await forward.setWeights((name) => toFloat32(byName.get(name)).data);
	return forward;
};
const encoder = await open(autoencoderKLEncoderChain(model));
const decoder = await open(autoencoderKLDecoderChain(model));
const load = async (options, every) => (await stackExamples(await openDataSet({ ...emoji, ...options }), every)).images;
try {
	const { mean: latents } = await encoder.run({ x: await load({ split: 'train' }, 6) });
	const mean = latents.data.reduce((a, v) => a + v, 0) / latents.data.length;
	const std = Math.sqrt(latents.data.reduce((a, v) => a + (v - mean) ** 2, 0) / latents.data.length);
	console.log(`latents of the training images: mean ${mean.toFixed(3)}, standard deviation ${std.toFixed(3)}`);
	for (const style of ['twitter', 'fluent', 'google']) {
		const x = await load({ style, split: 'held-out' });
		const { mean: z } = await encoder.run({ x });
		const { sample } = await decoder.run({ z });
		console.log(`${style}: ${meanPsnr(sample.data, x.data, x.shape[0]).toFixed(2)} dB over ${x.shape[0]} held-out emoji`);
	}
	const complete = { ...raw, scaling_factor: Number((1 / std).toPrecision(4)) };
	await writeModelFolder(folder, complete, weights, { replace: true });
} finally {
	await encoder.close();
	await decoder.close();
}
