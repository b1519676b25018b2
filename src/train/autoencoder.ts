/** @file Training of an AutoencoderKL: encoder, posterior sample, decoder and loss in one chain (Rombach et al., 2112.10752, without adversary). */
import { randomStream } from '../core/random.ts';
import { sizeOf, type Tensor } from '../core/tensor.ts';
import { type AutoencoderKLConfig, autoencoderKLDecoderChain, autoencoderKLEncoderChain } from '../models/autoencoder-kl.ts';
import type { Chain, Layer } from '../nn/chain.ts';
import type { Batch, DataSetInfo } from './data/types.ts';
import { sharedBuffers } from './feeds.ts';
import { type FitOptions, type FittedWeights, fitChain } from './fit.ts';
import { checkImages } from './image-check.ts';

/** Weights of the terms of the loss, each a mean: over pixel values in [-1, 1] or over latent values. */
export interface AutoencoderObjective {
	/** Of the mean absolute error. */
	readonly l1Weight: number;
	/** Of the mean square error. */
	readonly mseWeight: number;
	/** Of the divergence of the posterior from a standard normal, in nats per latent value. */
	readonly klWeight: number;
}

/**
 * Inputs x [B, C, H, W] in [-1, 1] and noise [B, Z, H / f, W / f]; output `loss` [1]: the sum over the samples of this micro-batch of
 * (l1 + mse + kl) / globalBatch for the decoded sample of the posterior, mean + exp(logvar / 2) * noise.
 */
export function autoencoderTrainingChain(config: AutoencoderKLConfig, objective: AutoencoderObjective, globalBatch: number): Chain {
	const encoder = autoencoderKLEncoderChain(config);
	const decoder = autoencoderKLDecoderChain(config);
	const image = encoder.inputs.x!;
	const latent = decoder.inputs.z!;
	const posterior: Layer = {
		name: 'posterior',
		path: '',
		build({ g }, live) {
			const [mean, logvar] = [live.get('mean'), live.get('logvar')];
			live.set('z', g.add(mean, g.mul(g.exp(g.mul(logvar, 0.5)), live.get('noise'))));
			const excess = g.sub(g.add(g.mul(mean, mean), g.exp(logvar)), g.add(logvar, 1));
			const elements = sizeOf(latent.shape);
			// Summed here, so that a cut after this layer sends one number per sample and not mean and logvar.
			live.set('kl', g.mul(g.reduceSum(g.reshape(excess, [-1, elements]), [1], false), 0.5 / elements));
		},
	};
	const loss: Layer = {
		name: 'loss',
		path: '',
		build({ g }, live) {
			const elements = sizeOf(image.shape);
			const error = g.reshape(g.sub(live.get('sample'), live.get('x')), [-1, elements]);
			const absolute = g.mul(g.reduceSum(g.abs(error), [1], false), objective.l1Weight / elements);
			const square = g.mul(g.reduceSumSquare(error, [1], false), objective.mseWeight / elements);
			const perSample = g.add(g.add(absolute, square), g.mul(live.get('kl'), objective.klWeight));
			live.set('loss', g.mul(g.reduceSum(perSample, [0], true), 1 / globalBatch));
		},
	};
	return {
		name: 'AutoencoderKL',
		inputs: { x: image, noise: latent },
		layers: [...encoder.layers, posterior, ...decoder.layers, loss],
		outputs: ['loss'],
	};
}

/** Trains an autoencoder from its first weights on the images of `options.data`, which must have the config's size. */
export async function trainAutoencoder(
	config: AutoencoderKLConfig,
	objective: AutoencoderObjective,
	options: FitOptions,
): Promise<FittedWeights> {
	const chain = autoencoderTrainingChain(config, objective, options.config.train.batch_size);
	const image = chain.inputs.x!.shape;
	const latent = chain.inputs.noise!.shape;
	const noise = randomStream(options.seed, 'train.noise');
	return fitChain(chain, options, (info: DataSetInfo) => {
		checkImages(info, image);
		const memory = sharedBuffers(3);
		return ({ step, images }: Batch): Record<string, Tensor> => {
			const count = images.length / sizeOf(image);
			const floats = (key: string, shape: readonly number[]): Tensor<'float32'> => {
				const whole = [count, ...shape];
				const length = sizeOf(whole);
				return { dtype: 'float32', shape: whole, data: new Float32Array(memory(key, step, 4 * length), 0, length) };
			};
			const feeds = { x: floats('x', image), noise: floats('noise', latent) };
			feeds.x.data.set(images);
			noise.normals(feeds.noise.data, step);
			return feeds;
		};
	});
}
