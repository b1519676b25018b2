/**
 * @file Does it learn? Trains the preset `mnist` as `diffusionpipe train mnist` does, draws 1000 digits by their labels with the finished
 * pipeline, and has another network read them.
 *
 * `train_seconds` is everything from opening the data to the finished pipeline: planning, steps, pictures, checkpoints. The reader
 * (lib/digit-classifier.mjs) is trained on the real training digits and must read real held-out ones; its misreadings count against
 * `label_accuracy` too. The first ten digits of each label are in bench/results/learns.png.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { loadTraining } from '../dist/cli/config-file.js';
import { createGenerator, openPipeline, trainingSamples } from '../dist/generate/index.js';
import { pictureOf } from '../dist/generate/pictures.js';
import { readParameter } from '../dist/train/checkpoint.js';
import { deviceCount } from '../dist/train/plan.js';
import { trainModel } from '../dist/train/trainer.js';
import { openDigitClassifier } from './lib/digit-classifier.mjs';
import { median, significant } from './lib/stats.mjs';

export const title = 'The preset mnist: training time, and how many drawn digits a classifier reads as their label';

const root = fileURLToPath(new URL('..', import.meta.url));
const digits = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
const pixels = 28 * 28;
/** Another than the preset draws its own pictures with. */
const seed = 1000;

/** Trains; resolves with the result, seconds, and the median images per second of the steps alone. */
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
	return { result, seconds: (performance.now() - start) / 1000, imagesPerSecond: (1000 * config.train.batch_size) / median(stepMs) };
}

/** `perDigit` images of every digit in turn, [10 * perDigit, 1, 28, 28]. */
async function draw(folder, { sample, parallel }, devices, perDigit) {
	const pipeline = await openPipeline(folder);
	const labels = Array.from({ length: perDigit }, () => digits).flat();
	const generator = await createGenerator(pipeline.denoiser, { devices, rows: labels.length, threads: parallel.threads_per_device });
	try {
		await generator.setWeights((name, shape) => readParameter(pipeline.weights, name, shape, pipeline.folder));
		const { steps, guidance_scale: guidanceScale } = sample;
		return { labels, images: await generator.sample({ labels, scheduler: pipeline.scheduler, steps, guidanceScale, seed }) };
	} finally {
		await generator.close();
		await pipeline.weights.close();
	}
}

/** How the images of one digit were read. */
function rowOf(digit, labels, found) {
	const readings = digits.map(() => 0);
	labels.forEach((label, i) => {
		if (label === digit) readings[found[i]]++;
	});
	const drawn = readings.reduce((a, b) => a + b, 0);
	const mistakes = digits.filter((d) => d !== digit && readings[d] > 0).sort((a, b) => readings[b] - readings[a]);
	return { digit, drawn, read_as_label: readings[digit], read_as: mistakes.map((d) => `${d} (${readings[d]})`).join(', ') };
}

export async function run({ quick, log }) {
	const { config } = await loadTraining(
		'mnist',
		[`output_dir="${root}runs/bench/learns"`, ...(quick ? ['train.max_steps=300'] : [])],
		root,
	);
	const devices = deviceCount(config);
	const classifier = await openDigitClassifier({ devices: 2, log });
	log(`classifier: ${(100 * classifier.accuracy).toFixed(2)} % of the held-out digits`);
	try {
		const { result, seconds, imagesPerSecond } = await train(config, log);
		const start = performance.now();
		const { labels, images } = await draw(result.pipeline, config, devices, quick ? 20 : 100);
		const sampleSeconds = (performance.now() - start) / 1000;
		log(`drew ${labels.length} digits in ${sampleSeconds.toFixed(1)} s`);
		const found = await classifier.classify(images.map((v) => Math.min(1, Math.max(-1, v))));
		const shown = Math.min(100, labels.length);
		const { png } = pictureOf(images.subarray(0, shown * pixels), [shown, 1, 28, 28], digits.length);
		mkdirSync(new URL('results/', import.meta.url), { recursive: true });
		writeFileSync(new URL('results/learns.png', import.meta.url), png);
		return {
			rows: digits.map((digit) => rowOf(digit, labels, found)),
			figures: {
				label_accuracy: significant(labels.filter((label, i) => label === found[i]).length / labels.length),
				train_seconds: significant(seconds),
				classifier_accuracy: significant(classifier.accuracy),
				images_per_second: significant(imagesPerSecond),
				steps: result.step,
				devices,
				last_loss: significant(result.loss),
				images_drawn: labels.length,
				sample_seconds: significant(sampleSeconds),
			},
		};
	} finally {
		await classifier.close();
	}
}
