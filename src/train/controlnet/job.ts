/** @file A ControlNet's training as chains, at the sizes of its data: what a dry run plans and a profile measures. */
import { trainingChain } from '../../diffusion/objective.ts';
import type { Denoiser } from '../../models/index.ts';
import type { Chain } from '../../nn/chain.ts';
import type { JobChains } from '../../plan/analytic/chain-work.ts';
import type { TrainConfig } from '../config.ts';
import { type DataOptions, openDataSet } from '../data/index.ts';
import { controlNetRun } from '../filled/controlnet.ts';
import { openRunParts } from '../filled/parts.ts';
import { packagedPath } from '../frozen.ts';
import type { TrainedModel } from '../model.ts';
import { checkConditioning } from './data.ts';
import type { ControlChains } from './types.ts';

/** What a ControlNet's run trains and what it runs frozen. */
export interface ControlJob {
	readonly denoiser: Denoiser;
	readonly control: ControlChains;
	/** The trained chain with its objective, with the locked U-Net's encoder in it. */
	readonly chain: Chain;
	/** The job with all that is frozen apart. */
	readonly job: Omit<JobChains, 'name'>;
}

/** The chains of `model`, a ControlNet, as `config` (completed) trains it. No weights are read. Throws config and input errors where things do not fit. */
export async function controlJob(config: TrainConfig, model: TrainedModel): Promise<ControlJob> {
	const { vae, text_encoder, train } = config;
	const data = await openDataSet(config.data as DataOptions);
	const folder = vae.path === '' ? '' : await packagedPath(vae.path, 'vae.path');
	const own = await openRunParts(folder, await packagedPath(text_encoder.path, 'text_encoder.path'), data, false);
	await own.close();
	const part = (name: string) => own.parts.find((known) => known.name === name);
	const [encoder, text] = [part('vae'), part('text_encoder')!];
	const [, height, width] = (encoder ? encoder.chain.inputs.posterior!.shape : [0, data.height, data.width]) as [number, number, number];
	const { denoiser, control } = model.build({ height, width, tokens: text.chain.inputs.input_ids!.shape[0]! });
	checkConditioning(data, denoiser.conditioning);
	const run = controlNetRun(control!.control, control!.unet, [encoder, text], text.weights, train.batch_size);
	return {
		denoiser,
		control: control!,
		chain: trainingChain(denoiser.chain, { ...denoiser, globalBatch: train.batch_size }),
		job: {
			backbones: [{ name: 'model', chain: run.chain, losses: ['loss'] }],
			frozen: run.parts.map(({ name, chain, takes }) => ({
				name,
				chain,
				after: [...new Set(Object.values(takes).map((taken) => taken.part))],
			})),
		},
	};
}
