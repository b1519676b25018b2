/** @file The two models of a cascade, each with its objective, and what a step feeds them. */
import { DiffusionPipeError } from '../core/errors.ts';
import { randomStream } from '../core/random.ts';
import type { Tensor } from '../core/tensor.ts';
import { trainingChain } from '../diffusion/objective.ts';
import { samplerConfig, trainingProcess } from '../diffusion/samplers/index.ts';
import { concatenatedKey, conditionedConfig } from '../models/concatenated.ts';
import { createDenoiser, type Denoiser } from '../models/index.ts';
import type { Chain } from '../nn/chain.ts';
import { type BackboneName, backboneNames, type CascadeConfig } from './cascade-config.ts';
import { type PerBackbone, perBackbone } from './cascade-session.ts';
import type { Batch, DataSetInfo } from './data/types.ts';
import { feedMaker } from './feeds.ts';
import { downsampled, upsampled } from './resize.ts';

/** The conditioning input of the model that enlarges: the small image, enlarged, [channels, height, width]. */
export const lowResolution = 'low_resolution';

/** One of the two models as it is trained and drawn with. */
export interface CascadePart {
	readonly denoiser: Denoiser;
	readonly className: string;
	/** Complete scheduler config. */
	readonly scheduler: Readonly<Record<string, unknown>>;
	/** The model with its objective. */
	readonly chain: Chain;
	readonly config: CascadeConfig[BackboneName];
}

/** Both models, and what a step feeds them. */
export interface Cascade {
	readonly parts: PerBackbone<CascadePart>;
	/** Pixels of a side of the large image over those of the small one. */
	readonly factor: number;
	/** The feeds of both chains, each a function of its seed, the step and the sample. */
	readonly feeds: (batch: Batch) => PerBackbone<Record<string, Tensor>>;
}

/**
 * Builds both models of a cascade for images of `info`. Throws a config error when the sizes or labels do not fit: the base is as large as its `sample_size` says, the
 * other as the data, a whole number of times larger.
 */
export function createCascade(config: CascadeConfig, info: DataSetInfo): Cascade {
	const sides = perBackbone((name) => {
		const { type: className, ...raw } = config[name].model;
		const place = name === 'base' ? 'model' : `${name}.model`;
		const plain = createDenoiser(className, raw, place);
		// What is drawn is drawn at its own size; only the model that enlarges sees another image.
		const isWhole = name === 'base' || raw[concatenatedKey] !== undefined;
		const denoiser = isWhole ? plain : createDenoiser(className, conditionedConfig(plain, lowResolution), place);
		const { type: schedulerClass, ...options } = config[name].scheduler;
		const scheduler = samplerConfig(schedulerClass, options);
		const chain = trainingChain(denoiser.chain, { ...denoiser, globalBatch: config[name].train.batch_size });
		const part: CascadePart = { denoiser, className, scheduler, chain: { ...chain, name }, config: config[name] };
		const { process, predictionType } = trainingProcess(scheduler);
		const shift = predictionType === 'flow_prediction' && typeof scheduler.shift === 'number' ? scheduler.shift : 1;
		return { part, make: feedMaker(config[name], denoiser, { process, predictionType, shift }) };
	});
	const shapeOf = (name: BackboneName) => {
		const { chain, sample } = sides[name].part.denoiser;
		return chain.inputs[sample]!.shape;
	};
	const want = [info.channels, info.height, info.width];
	const small = shapeOf('base');
	const [channels, rows, columns] = small as [number, number, number];
	const factor = info.height / rows;
	if (shapeOf('super_resolution').join() !== want.join()) {
		misfit('super_resolution.model', want, shapeOf('super_resolution'));
	}
	if (small.length !== 3 || channels !== info.channels || !Number.isInteger(factor) || factor < 2 || columns * factor !== info.width) {
		misfit('model', [info.channels, `${info.height} / n`, `${info.width} / n`], small);
	}
	for (const name of backboneNames) {
		const known = sides[name].part.denoiser.labels?.none;
		if (known === undefined || !info.classes || info.classes.length <= known) continue;
		throw new DiffusionPipeError('config', 'the data has more classes than the model', {
			place: name === 'base' ? 'model' : `${name}.model`,
			expected: `labels for ${info.classes.length} classes and one more, which means none`,
			found: `${known}`,
		});
	}
	const noise = randomStream(config.super_resolution.seed, 'train.condition_noise');
	const size = channels * rows * columns;
	const feeds = ({ step, images, labels }: Batch) => {
		const low = downsampled(images, info.height, info.width, factor);
		const noised = noise.normals(new Float32Array(low.length), step);
		for (let k = 0; k < low.length; k++) {
			const deviation = config.condition_noise * noise.uniform(step, Math.floor(k / size));
			noised[k] = low[k]! + deviation * noised[k]!;
		}
		const conditioning = { [lowResolution]: upsampled(noised, rows, columns, factor) };
		return {
			base: sides.base.make({ step, samples: low, labels, conditioning: {} }),
			super_resolution: sides.super_resolution.make({ step, samples: images, labels, conditioning }),
		};
	};
	return { parts: perBackbone((name) => sides[name].part), factor, feeds };
}

function misfit(place: string, expected: readonly (number | string)[], found: readonly number[]): never {
	throw new DiffusionPipeError('config', 'the images do not fit the model', {
		place,
		expected: `[${expected.join(', ')}] (in_channels, sample_size)`,
		found: `[${found.join(', ')}]`,
	});
}
