/**
 * @file Makes assets/emoji-clip, a pair of CLIP encoders for emoji and their names with a tokenizer, and prints what assets/README.md says of it.
 * After `npm run build`:
 *
 *   node scripts/make-clip.mjs [steps] [folder]
 */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { openForward } from '../dist/engine/local/forward.js';
import { toFloat32 } from '../dist/io/half.js';
import { writeJson } from '../dist/io/json-file.js';
import { writeModelFolder } from '../dist/io/model-folder.js';
import { openTokenizer } from '../dist/io/tokenizer.js';
import { clipTextChain, readCLIPTextConfig } from '../dist/models/clip-text.js';
import { clipVisionChain, readCLIPVisionConfig } from '../dist/models/clip-vision.js';
import { learnBytePairs, writeClipTokenizer } from '../dist/train/bpe.js';
import { readSessionConfig } from '../dist/train/config.js';
import { splitTowers, trainContrastive } from '../dist/train/contrastive.js';
import { emojiCaptions } from '../dist/train/data/emoji.js';
import { openDataSet } from '../dist/train/data/index.js';
import { stackExamples } from '../dist/train/data/stack.js';
import { halfWeights } from '../dist/train/fit.js';
import { retrievalRate } from '../dist/train/quality.js';
import { progress } from './lib/progress.mjs';

const [, , steps = '400', folder = fileURLToPath(new URL('../assets/emoji-clip', import.meta.url))] = process.argv;
const emoji = { type: 'emoji', style: 'both', size: 64 };
const tokens = 24;

const bytePairs = learnBytePairs(await emojiCaptions({ ...emoji, split: 'train' }), 1000);
await writeClipTokenizer(join(folder, 'tokenizer'), bytePairs, tokens);
const tokenizer = await openTokenizer(join(folder, 'tokenizer'));

const shared = { hidden_act: 'quick_gelu', layer_norm_eps: 1e-5, projection_dim: 64, dtype: 'float16' };
const rawText = {
	architectures: ['CLIPTextModelWithProjection'],
	model_type: 'clip_text_model',
	...shared,
	vocab_size: tokenizer.vocabularySize,
	hidden_size: 96,
	intermediate_size: 384,
	num_hidden_layers: 2,
	num_attention_heads: 4,
	max_position_embeddings: tokens,
	bos_token_id: tokenizer.special.bos,
	eos_token_id: tokenizer.special.eos,
	pad_token_id: tokenizer.special.pad,
};
const rawImage = {
	architectures: ['CLIPVisionModelWithProjection'],
	model_type: 'clip_vision_model',
	...shared,
	hidden_size: 128,
	intermediate_size: 512,
	num_hidden_layers: 4,
	num_attention_heads: 4,
	num_channels: 3,
	image_size: 64,
	patch_size: 8,
};
const models = { text: readCLIPTextConfig(rawText), image: readCLIPVisionConfig(rawImage) };
const config = readSessionConfig({
	train: { max_steps: Number(steps), batch_size: 256, ema_decay: 0.98 },
	optimizer: { lr: 1e-3, betas: [0.9, 0.98], eps: 1e-6, weight_decay: 0.1, lr_scheduler: 'cosine', warmup_steps: 20, min_lr_ratio: 0.02 },
	parallel: { data_parallel: 2 },
});
const report = progress(config.train.max_steps, 25);
// No mirroring: names tell left from right.
const augment = { shift: 0.06, zoom: 0.15, turn: 0.15, tint: 0.15 };
const data = { ...emoji, split: 'train' };
const fitted = await trainContrastive(models, tokenizer, { config, data, augment, seed: 0, onStep: report });
console.log(report.summary());
const towers = splitTowers(fitted);
const weights = { text: halfWeights(towers.text), image: halfWeights(towers.image) };

// What is judged are the weights as saved.
const open = async (chain, tensors) => {
	const byName = new Map(tensors.map((w) => [w.name, w]));
	const forward = await openForward(chain, { devices: 2, batch: 32 });
	await forward.setWeights((name) => toFloat32(byName.get(name)).data);
	return forward;
};
const textEncoder = await open(clipTextChain(models.text, { projection: true, outputs: ['text_embeds'] }), weights.text);
const imageEncoder = await open({ ...clipVisionChain(models.image), outputs: ['image_embeds'] }, weights.image);
try {
	for (const options of [
		{ style: 'google', split: 'all' },
		{ style: 'google', split: 'held-out' },
		{ style: 'twitter', split: 'held-out' },
		{ style: 'fluent', split: 'held-out' },
		{ style: 'twitter', split: 'train' },
	]) {
		const { images, captions } = await stackExamples(await openDataSet({ ...emoji, ...options }));
		const { text_embeds: text } = await textEncoder.run({ input_ids: tokenizer.encode(captions).inputIds });
		const { image_embeds: image } = await imageEncoder.run({ pixel_values: images });
		const rate = (top) => `top ${top} ${(100 * retrievalRate(text.data, image.data, 64, top)).toFixed(1)} %`;
		const chance = ((100 * 5) / captions.length).toFixed(2);
		console.log(`${options.style}, ${options.split}: ${rate(1)}, ${rate(5)} among ${captions.length} pictures (chance ${chance} %)`);
	}
	console.log(`learned scale of the logits: ${towers.logitScale.toFixed(2)}`);
	await writeModelFolder(join(folder, 'text_encoder'), rawText, weights.text, { base: 'model', replace: true });
	await writeModelFolder(join(folder, 'image_encoder'), rawImage, weights.image, { base: 'model', replace: true });
	await writeJson(join(folder, 'feature_extractor', 'preprocessor_config.json'), {
		image_processor_type: 'CLIPImageProcessor',
		crop_size: { height: 64, width: 64 },
		do_center_crop: true,
		do_convert_rgb: true,
		do_normalize: true,
		do_rescale: true,
		do_resize: true,
		image_mean: [0.5, 0.5, 0.5],
		image_std: [0.5, 0.5, 0.5],
		rescale_factor: 1 / 255,
		resample: 3,
		size: { shortest_edge: 64 },
	});
} finally {
	await textEncoder.close();
	await imageEncoder.close();
}
