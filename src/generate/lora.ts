/** @file The LoRA a pipeline is sampled with: its own, where a folder of a training run has one, and those named beside it. */
import { join } from 'node:path';
import { DiffusionPipeError } from '../core/errors.ts';
import { type LoraPart, loraFileName, mergedWeights, readLora } from '../io/lora-file.ts';
import { listCheckpoints } from '../train/checkpoint.ts';
import { runFolder } from '../train/run-folder.ts';
import { exists, type ModelPart } from './parts.ts';

/** LoRA to sample with. */
export interface LoraOptions {
	/** Files, folders with `pytorch_lora_weights.safetensors`, or runs that trained one; added up. */
	readonly lora?: readonly string[] | undefined;
	/** What every LoRA is multiplied by, the pipeline's own too: 1 as trained, 0 not at all. Default 1. */
	readonly loraScale?: number | undefined;
}

/**
 * `part`, the denoiser of the pipeline in `folder`, with the LoRA of the folder and those of `options` merged into its weights as they are read. A
 * checkpoint's averaged LoRA is taken when it has one.
 * @throws DiffusionPipeError of kind 'input' when a LoRA cannot be read or is of another model
 */
export async function withLora(part: ModelPart, folder: string, { lora = [], loraScale = 1 }: LoraOptions): Promise<ModelPart> {
	const own = await loraIn(folder);
	const places = [...(own === undefined ? [] : [own]), ...(await Promise.all(lora.map(loraOf)))];
	let { weights } = part;
	for (const place of places) weights = mergedWeights(weights, await readLora(place, part.name as LoraPart), loraScale);
	return { ...part, weights };
}

/** The LoRA right in a folder, averaged where there is an average. */
async function loraIn(folder: string): Promise<string | undefined> {
	const candidates = [join(folder, 'lora_ema', loraFileName), join(folder, loraFileName)];
	for (const path of candidates) if (await exists(path)) return path;
	return undefined;
}

/** The LoRA that a name means: a file, a folder's, a run's finished one, or that of its newest checkpoint. */
async function loraOf(place: string): Promise<string> {
	if (place.endsWith('.safetensors')) return place;
	const { pipeline, checkpoints } = runFolder(place);
	const newest = (await listCheckpoints(checkpoints)).at(-1);
	for (const folder of [place, pipeline, ...(newest ? [newest.path] : [])]) {
		const found = await loraIn(folder);
		if (found !== undefined) return found;
	}
	throw new DiffusionPipeError('input', 'holds no LoRA', { place, expected: `a run that trained one, or a folder with ${loraFileName}` });
}
