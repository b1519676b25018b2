/** @file A training run by hand: what `trainModel` puts together from a config, without its files, one step at a time. */
import { trainingChain } from '../../dist/diffusion/objective.js';
import { samplerConfig, trainingProcess } from '../../dist/diffusion/samplers/index.js';
import { createLocalEngine } from '../../dist/engine/local/engine.js';
import { createDenoiser } from '../../dist/models/index.js';
import { adamwGraph, adamwHyper } from '../../dist/program/adamw.js';
import { readTrainConfig } from '../../dist/train/config.js';
import { feedMaker } from '../../dist/train/feeds.js';
import { initialValues, placedParameters } from '../../dist/train/parameters.js';
import { planTraining } from '../../dist/train/plan.js';
import { emaDecay, learningRate } from '../../dist/train/rates.js';

/**
 * Plans and starts the run that the TOML document `raw` describes. `initial(parameter, seed)` gives first values other than the model's own.
 * `feeds(batch)` makes what a step is fed; `step(k, feeds, { trace })` takes step k (from 0) and resolves with loss, norm of the gradient
 * before clipping, wall time, and the timeline when traced.
 */
export async function openTraining(raw, { initial = initialValues } = {}) {
	const config = readTrainConfig(raw);
	const { train, optimizer, parallel, seed } = config;
	const { type: modelClass, ...modelConfig } = config.model;
	const { type: schedulerClass, ...schedulerOptions } = config.scheduler;
	const denoiser = createDenoiser(modelClass, modelConfig, 'model');
	const process = trainingProcess(samplerConfig(schedulerClass, schedulerOptions));
	const chain = trainingChain(denoiser.chain, { sample: denoiser.sample, output: denoiser.output, globalBatch: train.batch_size });
	const average = train.ema_decay > 0;
	const plan = await planTraining(config, chain, average ? 3 : 2);
	const engine = await createLocalEngine(plan.compiled, { update: adamwGraph(average), threads: parallel.threads_per_device });
	const parameters = placedParameters(engine, plan.compiled.banks);
	for (const p of parameters) {
		const values = initial(p, seed);
		for (const view of p.views('parameter')) view.set(values);
		if (average) for (const view of p.views({ moment: 2 })) view.set(values);
	}
	const make = feedMaker(config, denoiser, { ...process, shift: 1 });
	return {
		config,
		denoiser,
		plan,
		engine,
		parameters,
		feeds: ({ step, images, labels }) => make({ step, samples: images, labels, conditioning: {} }),
		async step(k, feeds, options) {
			const hyper = adamwHyper({
				lr: learningRate(config, k),
				betas: optimizer.betas,
				eps: optimizer.eps,
				weightDecay: optimizer.weight_decay,
				step: k + 1,
				maxGradNorm: train.gradient_clipping > 0 ? train.gradient_clipping : Number.POSITIVE_INFINITY,
				emaDecay: emaDecay(train.ema_decay, k + 1),
			});
			const start = performance.now();
			const { fetched, timeline } = await engine.run(
				'iteration',
				{ ...feeds, hyper: { dtype: 'float32', shape: [hyper.length], data: hyper } },
				options,
			);
			const ms = performance.now() - start;
			const loss = fetched.get('loss').data.reduce((a, b) => a + b, 0);
			return { loss, gradNorm: Math.sqrt(fetched.get('normSquared').data[0]), ms, timeline };
		},
		close: () => engine.close(),
	};
}
