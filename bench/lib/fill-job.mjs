/**
 * @file A job of `bench fill`: a latent denoiser under the emoji autoencoder and text encoder, run filled or not filled on the same engine.
 *
 * "Not filled" puts the frozen work after the flush, each layer on all devices at once on equal shares: what every trainer that encodes inline does.
 */
import { trainingChain } from '../../dist/diffusion/objective.js';
import { samplerConfig, trainingProcess } from '../../dist/diffusion/samplers/index.js';
import { createDenoiser } from '../../dist/models/index.js';
import { readTrainConfig } from '../../dist/train/config.js';
import { feedMaker } from '../../dist/train/feeds.js';
import { frozenFeeds, openRunParts } from '../../dist/train/filled/parts.js';
import { compileFilled, measureRun } from '../../dist/train/filled/plan.js';
import { openFilledSession } from '../../dist/train/filled/session.js';
import { hyperOf } from '../../dist/train/session.js';
import { normalNumbers } from './dit-training.mjs';

const pixels = { height: 64, width: 64 };

/** Opens the chain and the frozen parts of `config` (a training config as TOML tables). */
export async function openFillJob(raw) {
	const config = readTrainConfig(raw);
	const { type, ...modelConfig } = config.model;
	const { type: schedulerType, ...schedulerOptions } = config.scheduler;
	const { process, predictionType } = trainingProcess(samplerConfig(schedulerType, schedulerOptions));
	const parts = await openRunParts(config.vae.path, config.text_encoder.path, pixels, raw.pooled ?? false);
	const text = parts.parts.find(({ name }) => name === 'text_encoder');
	const tokens = text ? { tokens: text.chain.inputs.input_ids.shape[0] } : {};
	const denoiser = createDenoiser(type, modelConfig, 'model', tokens);
	const chain = trainingChain(denoiser.chain, { sample: denoiser.sample, output: denoiser.output, globalBatch: config.train.batch_size });
	const ahead = await frozenFeeds(parts, config.text_encoder.tokenizer, config.seed);
	const make = feedMaker(config, denoiser, { process, predictionType, shift: 1 }, new Set(Object.keys(parts.given)));
	const count = config.train.batch_size;
	const images = normalNumbers(count * 3 * pixels.height * pixels.width, 1);
	const captions = Array.from({ length: count }, (_, i) => `a picture of number ${i}`);
	return {
		config,
		chain,
		parts,
		measure: (onProgress) => measureRun(config, chain, parts, false, onProgress),
		frozenOf: (step) => ahead(step, { images, captions }),
		feedsOf: (step) => make({ step, labels: new Int32Array(count), conditioning: {} }),
	};
}

/** The same job with other `[parallel]` and `[train]` keys. */
export function withLayout(config, parallel, train = {}) {
	return { ...config, parallel: { ...config.parallel, ...parallel }, train: { ...config.train, ...train } };
}

/** A filled or not filled session of the job under `profile`; `next()` takes a step and gives { ms, loss, timeline }. */
export async function openFillRun(job, config, profile, { fill = true, effort = 1 } = {}) {
	const planned = compileFilled(config, job.chain, job.parts, profile, 2, { fill, effort });
	const session = await openFilledSession(job.chain, config, job.parts, planned, { average: false, seed: 0 });
	let step = 0;
	let begun = false;
	return {
		planned,
		async next({ trace = false } = {}) {
			if (!begun) await session.begin(job.frozenOf(0));
			begun = true;
			const feeds = job.feedsOf(step);
			const ahead = job.frozenOf(step + 1);
			const { hyper } = hyperOf(config, step++);
			const start = performance.now();
			const { loss, timeline } = await session.step(feeds, hyper, trace, ahead);
			return { ms: performance.now() - start, loss, timeline };
		},
		close: () => session.close(),
	};
}
