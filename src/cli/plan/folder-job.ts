/** @file The training job that a model folder holds: its denoiser trained, image and text encoders beside it frozen. No weights are read. */
import { existsSync } from 'node:fs';
import { basename, join } from 'node:path';
import { DiffusionPipeError } from '../../core/errors.ts';
import { denoiserName } from '../../generate/parts.ts';
import { readJsonObject } from '../../io/json-file.ts';
import { readPipelineIndex } from '../../io/model-folder.ts';
import { autoencoderKLEncoderChain, latentFactor, readAutoencoderKLConfig } from '../../models/autoencoder-kl.ts';
import { createEncoder, encoders } from '../../models/encoders.ts';
import { createDenoiser, type Denoiser } from '../../models/index.ts';
import type { Chain } from '../../nn/chain.ts';
import type { JobChains } from '../../plan/analytic/chain-work.ts';

/**
 * The job of the folder `path`, at the sizes of its configs: a pipeline (`model_index.json`) with AutoencoderKL and text encoders as frozen components, or
 * one denoiser (`config.json`) alone. Throws an input or config error naming the file.
 */
export async function folderJob(path: string): Promise<JobChains> {
	const name = basename(path);
	if (!existsSync(join(path, 'model_index.json'))) {
		const place = join(path, 'config.json');
		const config = await readJsonObject(place);
		if (typeof config._class_name !== 'string')
			throw new DiffusionPipeError('input', 'has no _class_name', { place, expected: 'the config of a denoiser, as diffusers saves it' });
		return { name, backbones: [{ name: 'model', chain: createDenoiser(config._class_name, config, place).chain }], frozen: [] };
	}
	const index = await readPipelineIndex(path);
	const part = denoiserName(path, index);
	const place = join(path, part, 'config.json');
	const denoiser = createDenoiser(index.parts[part]![1], await readJsonObject(place), place);
	const frozen: JobChains['frozen'][number][] = [];
	for (const [key, kind] of Object.entries(index.parts)) {
		if (!kind) continue;
		const config = join(path, key, 'config.json');
		if (kind[1] === 'AutoencoderKL') frozen.push({ name: key, chain: imageEncoder(await readJsonObject(config), config, denoiser) });
		else if (Object.hasOwn(encoders, kind[1]))
			frozen.push({ name: key, chain: createEncoder(kind[1], await readJsonObject(config), config).chain });
	}
	return { name, backbones: [{ name: part, chain: denoiser.chain }], frozen };
}

/** For pictures of the size whose latents the denoiser takes: [channels, height, width], or Flux's tokens of two by two. */
function imageEncoder(raw: unknown, place: string, { chain, sample }: Denoiser): Chain {
	const config = readAutoencoderKLConfig(raw, place);
	const [first = 1, height, width] = chain.inputs[sample]!.shape;
	const factor = latentFactor(config);
	if (height !== undefined && width !== undefined)
		return autoencoderKLEncoderChain(config, { height: height * factor, width: width * factor });
	const side = 2 * Math.round(Math.sqrt(first)) * factor;
	return autoencoderKLEncoderChain(config, { height: side, width: side });
}
