/** @file The config of a ControlNet's training, completed from the pipeline that it names. */
import { dirname, join } from 'node:path';
import { DiffusionPipeError } from '../../core/errors.ts';
import { resolveModel } from '../../io/hub.ts';
import { loraFileName } from '../../io/lora-file.ts';
import type { TrainConfig } from '../config.ts';
import { exists, partFolder } from '../part-folder.ts';
import { controlNetClass } from './model.ts';
import { checkControlSamples } from './samples.ts';

/** Where conditioning pictures come from unless `[data]` says, by type of data set. */
const usual: Readonly<Record<string, string>> = { folder: 'file', emoji: 'edges' };

/**
 * `config` as it is, or, where it trains a ControlNet, with the autoencoder and the text encoder of the pipeline that `model.pretrained` means where `[vae]` and
 * `[text_encoder]` name none, and with conditioning pictures in its data.
 * @throws DiffusionPipeError of kind 'config' when the data can have no conditioning pictures, there is no text encoder, or the pipeline's U-Net is not
 * complete without its LoRA; 'input' when there is no such pipeline
 */
export async function completedConfig(config: TrainConfig): Promise<TrainConfig> {
	const { model, vae, text_encoder: text, data } = config;
	if (model.type !== controlNetClass) return config;
	checkControlSamples(config.sample);
	const source = usual[data.type];
	if (source === undefined) {
		throw new DiffusionPipeError('config', 'there are no conditioning pictures in this data set', {
			place: 'data.type',
			expected: Object.keys(usual).join(', '),
			found: data.type,
		});
	}
	const conditioned = { ...config, data: { conditioning_image: source, ...data } };
	if (typeof model.pretrained !== 'string' || model.pretrained === '') return conditioned;
	const unet = await partFolder(await resolveModel(model.pretrained), ['unet']);
	const pipeline = dirname(unet);
	const within = await exists(join(pipeline, 'model_index.json'));
	if (within && (await exists(join(pipeline, loraFileName)))) {
		throw new DiffusionPipeError('config', 'the U-Net to lock has a LoRA beside its weights', {
			place: 'model.pretrained',
			expected: 'a pipeline without LoRA',
			found: join(pipeline, loraFileName),
		});
	}
	const own = async (part: string, file: string) => (within && (await exists(join(pipeline, part, file))) ? join(pipeline, part) : '');
	const path = text.path || (await own('text_encoder', 'config.json'));
	if (path === '') {
		throw new DiffusionPipeError('config', 'there is no text encoder', {
			place: 'text_encoder.path',
			expected: 'the folder of the one that the U-Net was trained with, or a pipeline in model.pretrained',
			found: `${unet}, which is no part of a pipeline with one`,
		});
	}
	return {
		...conditioned,
		vae: { path: vae.path || (await own('vae', 'config.json')) },
		text_encoder: { path, tokenizer: text.tokenizer || (text.path === '' ? await own('tokenizer', '.') : '') },
	};
}
