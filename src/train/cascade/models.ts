/** @file The two models of a cascade, each with its objective, and what a step feeds them. */
import { DiffusionPipeError } from '../../core/errors.ts';
import { randomStream } from '../../core/random.ts';
import type { Tensor } from '../../core/tensor.ts';
import { trainingChain } from '../../diffusion/objective.ts';
import { samplerConfig, trainingProcess } from '../../diffusion/samplers/index.ts';
import { concatenatedKey, conditionedConfig, lowResolution } from '../../models/concatenated.ts';
import { createDenoiser, type Denoiser } from '../../models/index.ts';
import type { Chain } from '../../nn/chain.ts';
import type { Batch, DataSetInfo } from '../data/types.ts';
import { type FeedMaker, feedMaker, type Process } from '../feeds.ts';
import { downsampled, upsampled } from '../resize.ts';
import { type BackboneName, backboneNames, type CascadeConfig, type PerBackbone, perBackbone } from './config.ts';

/** What a frozen text encoder gives, by the models' inputs. */
export interface TextShapes {
	/** `encoder_hidden_states`, [tokens, width]. */
	readonly states: readonly [number, number];
	/** Width of `pooled_projections`, where there is a projection. */
	readonly pooled: number | undefined;
}

/** One of the two models as it is trained and drawn with. */
export interface CascadePart {
	readonly denoiser: Denoiser;
	readonly className: string;
	/** Complete scheduler config. */
	readonly scheduler: Readonly<Record<string, unknown>>;
	/** That scheduler's view of training. */
	readonly process: Process;
	/** The model with its objective. */
	readonly chain: Chain;
	readonly config: CascadeConfig[BackboneName];
}

/** Both models. */
export interface CascadeModels {
	readonly parts: PerBackbone<CascadePart>;
	/** Pixels of a side of the large image over those of the small one. */
	readonly factor: number;
	/** Which models take what of the text encoder, by their inputs. */
	readonly texts: PerBackbone<readonly string[]>;
}

/** Both models, and what a step feeds them. */
export interface Cascade extends CascadeModels {
	/** The feeds of both chains, each a function of its seed, the step and the sample. `texts`: rows of what the text encoder gives, by the models' inputs. */
	readonly feeds: (batch: Batch, texts?: Readonly<Record<string, Float32Array>>) => PerBackbone<Record<string, Tensor>>;
}

/** Where a backbone's model stands in the config. */
function placeOf(name: BackboneName): string {
	return name === 'base' ? 'model' : `${name}.model`;
}

/** Builds both models. Throws a config error when their sizes, or what they are told, do not fit each other and the text encoder. */
export function createCascadeModels(config: CascadeConfig, text?: TextShapes): CascadeModels {
	const options = text ? { tokens: text.states[0] } : {};
	const parts = perBackbone((name): CascadePart => {
		const { type: className, ...raw } = config[name].model;
		const place = placeOf(name);
		const plain = createDenoiser(className, raw, place, options);
		// What is drawn is drawn at its own size; only the model that enlarges sees another image.
		const isWhole = name === 'base' || raw[concatenatedKey] !== undefined;
		const denoiser = isWhole ? plain : createDenoiser(className, conditionedConfig(plain, lowResolution), place, options);
		const { type: schedulerClass, ...schedulerOptions } = config[name].scheduler;
		const scheduler = samplerConfig(schedulerClass, schedulerOptions);
		const chain = trainingChain(denoiser.chain, { ...denoiser, globalBatch: config[name].train.batch_size });
		const { process, predictionType } = trainingProcess(scheduler);
		const shift = predictionType === 'flow_prediction' && typeof scheduler.shift === 'number' ? scheduler.shift : 1;
		return {
			denoiser,
			className,
			scheduler,
			process: { process, predictionType, shift },
			chain: { ...chain, name },
			config: config[name],
		};
	});
	const [small, large] = backboneNames.map((name) => sampleShape(parts[name]));
	const factor = large![1]! / small![1]!;
	if (small!.length !== 3 || small![0] !== large![0] || !Number.isInteger(factor) || factor < 2 || small![2]! * factor !== large![2]) {
		misfit('model', 'the sizes of the models do not fit', [large![0]!, `${large![1]} / n`, `${large![2]} / n`], small!);
	}
	return { parts, factor, texts: perBackbone((name) => textInputs(name, parts[name], text)) };
}

function sampleShape({ denoiser: { chain, sample } }: CascadePart): readonly number[] {
	return chain.inputs[sample]!.shape;
}

/** The inputs that the text encoder gives. Throws a config error for one that it, and the small image, do not. */
function textInputs(name: BackboneName, { denoiser }: CascadePart, text: TextShapes | undefined): readonly string[] {
	const given: Readonly<Record<string, readonly number[] | undefined>> = {
		encoder_hidden_states: text?.states,
		pooled_projections: text?.pooled === undefined ? undefined : [text.pooled],
	};
	const told = Object.entries(denoiser.conditioning).filter(([input]) => !(name === 'super_resolution' && input === lowResolution));
	for (const [input, { shape }] of told) {
		if (given[input]?.join() === shape.join()) continue;
		throw new DiffusionPipeError('config', given[input] ? 'the text does not fit the model' : `nothing gives the model's input ${input}`, {
			place: placeOf(name),
			expected: `[${shape.join(', ')}] per image`,
			...(given[input] ? { found: `[${given[input].join(', ')}] of the text encoder` } : {}),
			...(text || input !== 'encoder_hidden_states' ? {} : { hint: 'set text_encoder.path and text_encoder.tokenizer' }),
		});
	}
	if (text && name === 'base' && told.length === 0) {
		throw new DiffusionPipeError('config', 'the base is not told the texts', {
			place: 'model',
			expected: 'a model with encoder_hidden_states, as UNet2DConditionModel, or no text_encoder.path',
			found: denoiser.chain.name,
		});
	}
	return told.map(([input]) => input);
}

/**
 * Builds both models of a cascade for images of `info`. Throws a config error when the sizes or labels do not fit: the base is as large as its `sample_size` says, the
 * other as the data, a whole number of times larger. Inputs of the text encoder that are `given` on the devices are not fed.
 */
export function createCascade(config: CascadeConfig, info: DataSetInfo, text?: TextShapes, given: 'fed' | 'given' = 'fed'): Cascade {
	const models = createCascadeModels(config, text);
	const { parts, factor } = models;
	const want = [info.channels, info.height, info.width];
	const large = sampleShape(parts.super_resolution);
	if (large.join() !== want.join()) misfit('super_resolution.model', 'the images do not fit the model', want, large);
	for (const name of backboneNames) {
		const known = parts[name].denoiser.labels?.none;
		if (known === undefined || !info.classes || info.classes.length <= known) continue;
		throw new DiffusionPipeError('config', 'the data has more classes than the model', {
			place: placeOf(name),
			expected: `labels for ${info.classes.length} classes and one more, which means none`,
			found: `${known}`,
		});
	}
	const make = perBackbone((name): FeedMaker => {
		const { denoiser, process } = parts[name];
		return feedMaker(config[name], denoiser, process, new Set(given === 'given' ? models.texts[name] : []));
	});
	const noise = randomStream(config.super_resolution.seed, 'train.condition_noise');
	const [channels, rows, columns] = sampleShape(parts.base) as [number, number, number];
	const size = channels * rows * columns;
	const feeds: Cascade['feeds'] = ({ step, images, labels }, texts = {}) => {
		const low = downsampled(images, info.height, info.width, factor);
		const noised = noise.normals(new Float32Array(low.length), step);
		for (let k = 0; k < low.length; k++) {
			const deviation = config.condition_noise * noise.uniform(step, Math.floor(k / size));
			noised[k] = low[k]! + deviation * noised[k]!;
		}
		const conditioning = { ...texts, [lowResolution]: upsampled(noised, rows, columns, factor) };
		return {
			base: make.base({ step, samples: low, labels, conditioning: texts }),
			super_resolution: make.super_resolution({ step, samples: images, labels, conditioning }),
		};
	};
	return { ...models, feeds };
}

function misfit(place: string, what: string, expected: readonly (number | string)[], found: readonly number[]): never {
	throw new DiffusionPipeError('config', what, {
		place,
		expected: `[${expected.join(', ')}] (in_channels, sample_size)`,
		found: `[${found.join(', ')}]`,
	});
}
