/** @file A diffusion training run by hand: what `trainModel` puts together from a config, without its files, one step at a time. */
import { trainingChain } from '../../dist/diffusion/objective.js';
import { samplerConfig, trainingProcess } from '../../dist/diffusion/samplers/index.js';
import { createDenoiser } from '../../dist/models/index.js';
import { readTrainConfig } from '../../dist/train/config.js';
import { feedMaker } from '../../dist/train/feeds.js';
import { hyperOf, openSession } from '../../dist/train/session.js';

/**
 * Plans and starts the run that the TOML document `raw` describes. `initial(parameter, seed)` gives first values other than the model's own.
 * `feeds(batch)` makes what a step is fed, in memory that the third step after takes over; `step(k, feeds, { trace })` takes step k (from 0) and
 * resolves with loss, norm of the gradient before clipping, wall time, and the timeline when traced.
 */
export async function openTraining(raw, { initial } = {}) {
	const config = readTrainConfig(raw);
	const { type: modelClass, ...modelConfig } = config.model;
	const { type: schedulerClass, ...schedulerOptions } = config.scheduler;
	const denoiser = createDenoiser(modelClass, modelConfig, 'model');
	const process = trainingProcess(samplerConfig(schedulerClass, schedulerOptions));
	const { sample, output } = denoiser;
	const chain = trainingChain(denoiser.chain, { sample, output, globalBatch: config.train.batch_size });
	const average = config.train.ema_decay > 0;
	const session = await openSession(chain, config, { average, seed: config.seed });
	for (const p of initial ? session.parameters : []) {
		const values = initial(p, config.seed);
		for (const view of p.views('parameter')) view.set(values);
		if (average) for (const view of p.views({ moment: 2 })) view.set(values);
	}
	const make = feedMaker(config, denoiser, { ...process, shift: 1 });
	return {
		config,
		denoiser,
		plan: session.plan,
		parameters: session.parameters,
		feeds: ({ step, images, labels }) => make({ step, samples: images, labels, conditioning: {} }),
		async step(k, feeds, { trace = false } = {}) {
			const { hyper } = hyperOf(config, k);
			const start = performance.now();
			const result = await session.step(feeds, hyper, trace);
			return { ...result, timeline: result.traced?.timeline, ms: performance.now() - start };
		},
		close: () => session.close(),
	};
}
