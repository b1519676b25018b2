/**
 * @file Does text-to-image learn its objects? Trains the preset `emoji` as `diffusionpipe train emoji` does, draws captions of the training data
 * with the finished pipeline, and looks for the training picture that each drawing is nearest to.
 *
 *   npm run bench -- emoji            trains, then judges
 *   npm run bench -- emoji FOLDER     judges a run or pipeline that is there
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { loadTraining } from '../dist/cli/config-file.js';
import { randomStream } from '../dist/core/random.js';
import { openForward } from '../dist/engine/local/forward.js';
import { createPipeline, trainingSamples } from '../dist/generate/index.js';
import { pictureOf } from '../dist/generate/pictures.js';
import { toFloat32 } from '../dist/io/half.js';
import { readModelFolder } from '../dist/io/model-folder.js';
import { clipVisionChain, readCLIPVisionConfig } from '../dist/models/clip-vision.js';
import { openDataSet } from '../dist/train/data/index.js';
import { stackExamples } from '../dist/train/data/stack.js';
import { deviceCount } from '../dist/train/plan.js';
import { trainModel } from '../dist/train/trainer.js';
import { median, significant } from './lib/stats.mjs';

export const title = 'The preset emoji: training time, and how many drawings look most like the picture of their caption';

const root = fileURLToPath(new URL('..', import.meta.url));
const seed = 1000;

async function train(config, log) {
	const stepMs = [];
	const start = performance.now();
	const result = await trainModel(config, {
		overwrite: true,
		samples: trainingSamples,
		onEvent(event) {
			if (event.kind === 'note') log(event.text);
			if (event.kind !== 'step') return;
			stepMs.push(event.stepMs);
			if (event.step % 100 === 0)
				log(`step ${event.step} of ${event.maxSteps}: loss ${event.loss.toFixed(4)}, ${event.imagesPerSecond.toFixed(0)} images/s`);
		},
	});
	return {
		folder: result.pipeline,
		figures: {
			train_seconds: significant((performance.now() - start) / 1000),
			images_per_second: significant((1000 * config.train.batch_size) / median(stepMs)),
			images_trained: result.step * config.train.batch_size,
			last_loss: significant(result.loss),
		},
	};
}

/** Rows of unit length: what the image encoder of `assets/emoji-clip` sees in pictures [count, 3, 64, 64]. */
async function embeddings(images, devices) {
	const { config: raw, weights } = await readModelFolder(join(root, 'assets/emoji-clip/image_encoder'));
	const chain = { ...clipVisionChain(readCLIPVisionConfig(raw)), outputs: ['image_embeds'] };
	const forward = await openForward(chain, { devices, batch: 32 });
	try {
		await forward.setWeights(async (name) => toFloat32(await weights.read(name)).data);
		const shape = [images.length / (3 * 64 * 64), 3, 64, 64];
		const { image_embeds } = await forward.run({ pixel_values: { dtype: 'float32', shape, data: images } });
		return rowsOf(image_embeds.data, shape[0]).map((row) => {
			const norm = Math.hypot(...row);
			return row.map((v) => v / norm);
		});
	} finally {
		await forward.close();
		await weights.close();
	}
}

function rowsOf(data, count) {
	const width = data.length / count;
	return Array.from({ length: count }, (_, i) => data.subarray(i * width, (i + 1) * width));
}

/** Every picture averaged over squares of 4 x 4 pixels: what is compared place by place should not hang on an outline's last pixel. */
function thumbnails(images, count) {
	return rowsOf(images, count).map((image) => {
		const small = new Float32Array(3 * 16 * 16);
		image.forEach((v, i) => {
			const [c, y, x] = [Math.floor(i / 4096), Math.floor(i / 64) % 64, i % 64];
			small[c * 256 + Math.floor(y / 4) * 16 + Math.floor(x / 4)] += v / 16;
		});
		return small;
	});
}

const distance = (a, b) => a.reduce((sum, v, i) => sum + (v - b[i]) ** 2, 0);

/** Captions of the `top` rows of `known` nearest to `row`, nearest first. */
function nearest(row, known, captions, top) {
	const far = known.map((other) => distance(row, other));
	return [...far.keys()]
		.sort((a, b) => far[a] - far[b])
		.slice(0, top)
		.map((i) => captions[i]);
}

export async function run({ quick, log, args: [given] }) {
	const { config } = await loadTraining('emoji', [`output_dir="${root}runs/bench/emoji"`, ...(quick ? ['train.max_steps=200'] : [])], root);
	const devices = deviceCount(config);
	const { folder, figures } = given ? { folder: given, figures: {} } : await train(config, log);
	const known = await stackExamples(await openDataSet({ ...config.data, split: 'train' }));
	const pick = randomStream(seed, 'emoji.captions');
	const count = quick ? 24 : 120;
	const prompts = [...known.captions.keys()]
		.sort((a, b) => pick.uniform(0, a) - pick.uniform(0, b))
		.slice(0, count)
		.map((i) => known.captions[i]);
	const { steps, guidance_scale: guidanceScale } = config.sample;
	const pipeline = await createPipeline(folder, { devices });
	const start = performance.now();
	const { images } = await pipeline.generate({ prompts, steps, guidanceScale, seed });
	const sampleSeconds = (performance.now() - start) / 1000;
	await pipeline.close();
	mkdirSync(new URL('results/', import.meta.url), { recursive: true });
	const shown = Math.min(36, count);
	writeFileSync(
		new URL('results/emoji.png', import.meta.url),
		pictureOf(images.subarray(0, shown * 3 * 64 * 64), [shown, 3, 64, 64], 12).png,
	);
	const views = {
		encoder: [await embeddings(images, devices), await embeddings(known.images.data, devices)],
		pixels: [thumbnails(images, count), thumbnails(known.images.data, known.captions.length)],
	};
	const found = Object.entries(views).map(([view, [drawn, all]]) => {
		const lists = drawn.map((row) => nearest(row, all, known.captions, 5));
		const share = (top) => significant(lists.filter((list, i) => list.slice(0, top).includes(prompts[i])).length / count);
		return { nearest_by: view, first: share(1), first_five: share(5) };
	});
	return {
		rows: found,
		figures: {
			...Object.fromEntries(
				found.flatMap(({ nearest_by: view, first, first_five: five }) => [
					[`${view}_first`, first],
					[`${view}_first_five`, five],
				]),
			),
			...figures,
			captions_drawn: count,
			training_pictures: known.captions.length,
			guidance_scale: guidanceScale,
			devices,
			sample_seconds: significant(sampleSeconds),
		},
	};
}
