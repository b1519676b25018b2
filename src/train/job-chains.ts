/** @file What a run's config trains and runs frozen, as chains: what profiles are made from. No weights are read. */
import { join } from 'node:path';
import { DiffusionPipeError } from '../core/errors.ts';
import { trainingChain } from '../diffusion/objective.ts';
import { readJsonObject } from '../io/json-file.ts';
import { autoencoderKLEncoderChain, latentFactor, readAutoencoderKLConfig } from '../models/autoencoder-kl.ts';
import { createEncoder } from '../models/encoders.ts';
import type { Denoiser } from '../models/index.ts';
import type { Chain } from '../nn/chain.ts';
import type { JobChains } from '../plan/analytic/chain-work.ts';
import type { TrainConfig } from './config.ts';
import { completedConfig } from './controlnet/config.ts';
import { controlJob } from './controlnet/job.ts';
import { packagedPath } from './frozen.ts';
import { openTrainedModel } from './model.ts';

/**
 * The job of `config`: the model between its objective's layers, image and text encoder as they are configured. Throws a config or input error when the
 * model or a part does not fit.
 */
export async function trainingJob(given: TrainConfig, name: string): Promise<JobChains> {
	const config = await completedConfig(given);
	const model = await openTrainedModel(config);
	await model.close();
	if (model.locked) return { name, ...(await controlJob(config, model)).job };
	const { denoiser } = model.build();
	const { vae, text_encoder } = config;
	return {
		name,
		backbones: [
			{ name: 'model', chain: trainingChain(denoiser.chain, { ...denoiser, globalBatch: config.train.batch_size }), losses: ['loss'] },
		],
		frozen: [
			...(vae.path === '' ? [] : [{ name: 'vae', chain: await vaeChain(vae.path, denoiser) }]),
			...(text_encoder.path === '' ? [] : [{ name: 'text_encoder', chain: await textChain(text_encoder.path) }]),
		],
	};
}

/** The encoder of the AutoencoderKL in `path`, for pictures of the size whose latents the model takes. */
async function vaeChain(path: string, { chain, sample }: Denoiser): Promise<Chain> {
	const place = join(await packagedPath(path, 'vae.path'), 'config.json');
	const config = readAutoencoderKLConfig(await readJsonObject(place), place);
	const [channels, height, width, ...more] = chain.inputs[sample]!.shape;
	if (channels !== config.latent_channels || height === undefined || width === undefined || more.length > 0) {
		throw new DiffusionPipeError('config', 'makes other latents than the model takes', {
			place: 'vae.path',
			expected: `latents [${chain.inputs[sample]!.shape.join(', ')}]`,
			found: `${config.latent_channels} channels`,
		});
	}
	const factor = latentFactor(config);
	return autoencoderKLEncoderChain(config, { height: height * factor, width: width * factor });
}

/** The text encoder in `path`, with all that it gives. */
export async function textChain(path: string): Promise<Chain> {
	const place = join(await packagedPath(path, 'text_encoder.path'), 'config.json');
	const raw = await readJsonObject(place);
	const className = String((raw.architectures as readonly unknown[] | undefined)?.[0] ?? 'CLIPTextModel');
	const projected = className === 'CLIPTextModelWithProjection';
	return createEncoder(className, raw, place, { outputs: ['last_hidden_state', ...(projected ? ['text_embeds'] : [])] }).chain;
}
