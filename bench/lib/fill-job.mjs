/**
 * @file The jobs of `bench fill`: denoisers under the emoji autoencoder and text encoder, run filled or not filled on the same engine.
 *
 * "Not filled" puts the frozen work after the flush, each layer on all devices at once on equal shares: what every trainer that encodes inline does.
 */

import { trainingChain } from '../../dist/diffusion/objective.js';
import { samplerConfig, trainingProcess } from '../../dist/diffusion/samplers/index.js';
import { controlNetChain, readControlNetConfig } from '../../dist/models/controlnet.js';
import { createDenoiser } from '../../dist/models/index.js';
import { readUNetConditionConfig, unetConditionChain } from '../../dist/models/unet-condition.js';
import { traceChain } from '../../dist/nn/chain.js';
import { readTrainConfig } from '../../dist/train/config.js';
import { feedMaker } from '../../dist/train/feeds.js';
import { controlNetRun } from '../../dist/train/filled/controlnet.js';
import { frozenFeeds, openRunParts, textPart, vaePart } from '../../dist/train/filled/parts.js';
import { compileFilled, measureRun } from '../../dist/train/filled/plan.js';
import { openFilledSession } from '../../dist/train/filled/session.js';
import { initialValues } from '../../dist/train/parameters.js';
import { hyperOf } from '../../dist/train/session.js';
import { normalNumbers } from './dit-training.mjs';

const pixels = { height: 64, width: 64 };
const size = { height: 16, width: 16 };
const assets = { vae: 'assets/emoji-vae', text: 'assets/emoji-clip/text_encoder', tokenizer: 'assets/emoji-clip/tokenizer' };

/** A complete config around a layout: what the model is stands apart. */
function configOf(batch, microBatches, parallel) {
	return readTrainConfig({
		output_dir: 'runs/fill',
		model: { type: 'PixArtTransformer2DModel' },
		scheduler: { type: 'DDIMScheduler' },
		data: { type: 'emoji' },
		train: { max_steps: 1000, batch_size: batch, gradient_accumulation_steps: microBatches, ema_decay: 0 },
		parallel,
	});
}

function processOf(config) {
	const { type, ...options } = config.scheduler;
	return { ...trainingProcess(samplerConfig(type, options)), shift: 1 };
}

/** Pictures and captions of a step: what they show does not matter to the time. */
function hostBatch(count) {
	return {
		images: normalNumbers(count * 3 * pixels.height * pixels.width, 1).map((v) => Math.tanh(v)),
		captions: Array.from({ length: count }, (_, i) => `a picture of number ${i}`),
	};
}

/** A latent denoiser of class `model.type`, its autoencoder and its text encoder. */
export async function denoiserJob(model, batch) {
	const { type, ...modelConfig } = model;
	const parts = await openRunParts(assets.vae, assets.text, pixels, false);
	const tokens = parts.parts[1].chain.inputs.input_ids.shape[0];
	const denoiser = createDenoiser(type, modelConfig, 'model', { tokens });
	const chain = trainingChain(denoiser.chain, { sample: denoiser.sample, output: denoiser.output, globalBatch: batch });
	const ahead = await frozenFeeds(parts, assets.tokenizer, 0);
	const config = configOf(batch, 1, {});
	const make = feedMaker(config, denoiser, processOf(config), new Set(Object.keys(parts.given)));
	const host = hostBatch(batch);
	return {
		batch,
		chain,
		parts,
		frozenOf: (step) => ahead(step, host),
		feedsOf: (step) => make({ step, labels: new Int32Array(batch), conditioning: {} }),
		close: () => parts.close(),
	};
}

/** A ControlNet beside a locked U-Net of the blocks that `unet` says; the control picture is the picture itself, at half its size. */
export async function controlNetJob(unet, control, batch) {
	const tokens = 24;
	const chains = [
		controlNetChain(readControlNetConfig(control), { ...size, tokens }),
		unetConditionChain(readUNetConditionConfig(unet), { ...size, tokens, residuals: 'maps' }),
	];
	const locked = traceChain(chains[1], 1).parameters;
	const own = [await vaePart(assets.vae, pixels), await textPart(assets.text, false)];
	const run = controlNetRun(...chains, own, async (name) => initialValues(locked.get(name), 1), batch);
	const ahead = await frozenFeeds({ parts: own, given: {} }, assets.tokenizer, 0);
	const config = configOf(batch, 1, {});
	const latents = run.chain.inputs.x0.shape;
	const denoiser = {
		chain: { inputs: { sample: { dtype: 'float32', shape: latents } } },
		sample: 'sample',
		conditioning: {},
		fixed: {},
		timestepScale: 1,
	};
	const make = feedMaker(config, denoiser, processOf(config), new Set(['x0']));
	const host = hostBatch(batch);
	const condition = run.chain.inputs.controlnet_cond.shape;
	const picture = { dtype: 'float32', shape: [batch, ...condition], data: normalNumbers(batch * condition.reduce((a, b) => a * b), 2) };
	const feedsOf = (step) => ({ ...make({ step, labels: new Int32Array(batch), conditioning: {} }), controlnet_cond: picture });
	return {
		batch,
		chain: run.chain,
		parts: run,
		frozenOf: (step) => {
			const next = feedsOf(step);
			return { ...ahead(step, host), ...Object.fromEntries(run.early.map((name) => [`unet_encoder.${name}`, next[name]])) };
		},
		feedsOf,
		close: () => Promise.all(own.map((part) => part.close())),
	};
}

/** The profile of a job for layouts of `microBatches`, measured with two devices side by side. */
export function measureJob(job, microBatches) {
	return measureRun(configOf(job.batch, microBatches, { pipeline_stages: 2 }), job.chain, job.parts, false);
}

/** A session of the job under `profile`; `next()` takes a step and gives { ms, loss, timeline, held }. */
export async function openFillRun(job, profile, { microBatches, parallel, fill = true, effort = 1 }) {
	const config = configOf(job.batch, microBatches, parallel);
	const planned = compileFilled(config, job.chain, job.parts, profile, 2, { fill, effort });
	const session = await openFilledSession(job.chain, config, job.parts, planned, { average: false, seed: 0 });
	await session.begin(job.frozenOf(0));
	let step = 0;
	return {
		planned,
		async next({ trace = false } = {}) {
			const feeds = job.feedsOf(step);
			const ahead = job.frozenOf(step + 1);
			const { hyper } = hyperOf(config, step++);
			const start = performance.now();
			const { loss, traced } = await session.step(feeds, hyper, trace, ahead);
			return { ms: performance.now() - start, loss, timeline: traced?.timeline, held: traced?.held };
		},
		close: () => session.close(),
	};
}
