/** @file The model a config trains: from nothing, or from the weights of a folder, whole or by LoRA. */
import { DiffusionPipeError } from '../core/errors.ts';
import { resolveModel } from '../io/hub.ts';
import type { LoraSettings } from '../io/lora-file.ts';
import { readModelFolder } from '../io/model-folder.ts';
import type { TensorReader } from '../io/safetensors.ts';
import { selfConditionedConfig, selfConditioningKey } from '../models/concatenated.ts';
import { createDenoiser, type Denoiser, type DenoiserOptions } from '../models/index.ts';
import { chooseModules, loraChain } from '../nn/lora.ts';
import { readParameter } from './checkpoint.ts';
import type { TrainConfig } from './config.ts';
import { controlNetClass, openTrainedControlNet } from './controlnet/model.ts';
import type { ControlChains, LockedUNet } from './controlnet/types.ts';
import type { PlacedParameter } from './parameters.ts';
import { partFolder } from './part-folder.ts';

/** The folder that training starts from. */
export interface BaseModel {
	readonly folder: string;
	readonly weights: TensorReader;
	/** Parameters that have their first values from it; all unless given. */
	readonly holds?: (name: string) => boolean;
}

/** A model to train, not built yet. */
export interface TrainedModel {
	readonly className: string;
	readonly base: BaseModel | undefined;
	/** Of a ControlNet: the U-Net it is trained beside. */
	readonly locked?: LockedUNet;
	/** Builds the denoiser; with LoRA its chain is the adapted one, of a ControlNet it ends in the locked U-Net. Throws config errors. */
	build(options?: DenoiserOptions): {
		readonly denoiser: Denoiser;
		readonly lora: LoraSettings | undefined;
		readonly control?: ControlChains;
	};
	close(): Promise<void>;
}

/**
 * Opens what `[model]` and `[lora]` say. `model.pretrained` may be a model folder, a pipeline, a run, or `owner/name` of the hub; its `config.json` holds
 * for every key that `[model]` does not give.
 * @throws DiffusionPipeError of kind 'config' when the classes differ or LoRA has nothing to adapt, 'input' when the folder cannot be read
 */
export async function openTrainedModel(config: Pick<TrainConfig, 'model' | 'lora' | 'objective' | 'vae'>): Promise<TrainedModel> {
	const { model, lora: l, objective, vae } = config;
	if (model.type === controlNetClass) return openTrainedControlNet(config);
	const { type: className, pretrained, ...given } = model;
	if (pretrained !== undefined && (typeof pretrained !== 'string' || pretrained === '')) {
		throw new DiffusionPipeError('config', 'has a wrong value', {
			place: 'model.pretrained',
			expected: 'a model folder, a pipeline, a run, or owner/name of a model on the hub',
			found: JSON.stringify(pretrained),
		});
	}
	if (l.rank > 0 && pretrained === undefined) {
		throw new DiffusionPipeError('config', 'there is no model to adapt', {
			place: 'lora.rank',
			expected: 'model.pretrained',
			hint: 'set model.pretrained, or lora.rank = 0 to train the whole model from nothing',
		});
	}
	const folder = pretrained === undefined ? undefined : await partFolder(await resolveModel(pretrained), ['unet', 'transformer']);
	const opened = folder === undefined ? undefined : await readModelFolder(folder);
	const own = (opened?.config ?? {}) as Readonly<Record<string, unknown>>;
	if (folder !== undefined && own._class_name !== undefined && own._class_name !== className) {
		await opened?.weights.close();
		throw new DiffusionPipeError('config', 'is of another class', {
			place: 'model.pretrained',
			expected: className,
			found: `${String(own._class_name)} in ${folder}`,
		});
	}
	const raw = { ...own, ...given };
	const selfConditioned = objective.self_conditioning > 0;
	if (selfConditioned && pretrained !== undefined && raw[selfConditioningKey] === undefined) {
		await opened?.weights.close();
		throw new DiffusionPipeError('config', 'the model to start from is not self-conditioned', {
			place: 'objective.self_conditioning',
			expected: '0, or a model trained with self-conditioning',
			found: String(objective.self_conditioning),
		});
	}
	return {
		className,
		base: opened && { folder: folder!, weights: opened.weights },
		build(options) {
			const plain = () => createDenoiser(className, raw, 'model', options);
			const config = selfConditioned && raw[selfConditioningKey] === undefined ? selfConditionedConfig(plain(), estimateLimit(vae)) : raw;
			const denoiser = createDenoiser(className, config, 'model', options);
			if (l.rank === 0) return { denoiser, lora: undefined };
			const modules = chooseModules(denoiser.chain, l.target_modules);
			const lora = { rank: l.rank, alpha: l.alpha ?? l.rank, modules };
			return { denoiser: { ...denoiser, chain: loraChain(denoiser.chain, { ...lora, init: l.init_lora_weights }) }, lora };
		},
		close: async () => opened?.weights.close(),
	};
}

/** The largest magnitude of estimates of clean samples: that of pixels, or four times the usual deviation of latents. */
function estimateLimit({ path }: TrainConfig['vae']): number {
	return path === '' ? 1 : 4;
}

/**
 * Gives every parameter but those of a LoRA the values of `base`, and their moving averages where they are kept.
 * @throws DiffusionPipeError of kind 'input' naming a parameter that `base` lacks or has in another shape
 */
export async function readBase(
	parameters: readonly PlacedParameter[],
	{ weights, folder, holds = () => true }: BaseModel,
	{ lora, average }: { readonly lora: boolean; readonly average: number | undefined },
): Promise<void> {
	for (const p of parameters) {
		if ((lora && p.trained) || !holds(p.name)) continue;
		const values = await readParameter(weights, p.name, p.shape, folder);
		for (const view of p.views('parameter')) view.set(values);
		if (average !== undefined && p.trained) for (const view of p.views({ moment: average })) view.set(values);
	}
}
