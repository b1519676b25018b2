/** @file Between images and the latents that a denoiser works on; the identity for models of pixels. */
import { DiffusionPipeError } from '../core/errors.ts';
import { sizeOf, type Tensor } from '../core/tensor.ts';
import { asSpelledIn } from '../models/attention-names.ts';
import {
	type AutoencoderKLConfig,
	autoencoderKLDecoderChain,
	autoencoderKLEncoderChain,
	latentFactor,
	readAutoencoderKLConfig,
} from '../models/autoencoder-kl.ts';
import type { Chain } from '../nn/chain.ts';
import type { PixelSize } from './image-size.ts';
import { checkWeights, type ModelPart, type RunOptions, withForward } from './parts.ts';

/** Images [images, channels, height, width] in [-1, 1] to samples [images, channels, rows, columns] of a denoiser, and back. */
export interface ImageCodec {
	/** Pixels along a side for each row of a sample. */
	readonly factor: number;
	/** Channels of samples; undefined: those of the denoiser, whose samples are pixels. */
	readonly sampleChannels: number | undefined;
	readonly imageChannels: number | undefined;
	/** Throws an input error when the weights do not fit. */
	check(size: PixelSize, encodes: boolean): void;
	/** Latents are the mean of what the encoder gives: of the posterior's noise, which is slight, nothing is added. */
	encode(images: Tensor<'float32'>, options: RunOptions): Promise<Tensor<'float32'>>;
	decode(samples: Tensor<'float32'>, options: RunOptions): Promise<Tensor<'float32'>>;
}

/** For denoisers of pixels. */
export const pixelCodec: ImageCodec = {
	factor: 1,
	sampleChannels: undefined,
	imageChannels: undefined,
	check() {},
	encode: async (images) => images,
	decode: async (samples) => ({ ...samples, data: clipped(samples.data) }),
};

/** The codec of an AutoencoderKL. Throws a config error for another class. */
export function vaeCodec(part: ModelPart): ImageCodec {
	if (part.className !== 'AutoencoderKL') {
		throw new DiffusionPipeError('config', `autoencoder class ${part.className} is not known`, {
			place: part.place,
			expected: 'AutoencoderKL',
		});
	}
	const config = readAutoencoderKLConfig(part.config, part.place);
	const factor = latentFactor(config);
	const spelled = (chain: Chain) => asSpelledIn(chain, part.weights.names);
	const encoder = (size: PixelSize) => spelled(autoencoderKLEncoderChain(config, size));
	const decoder = (rows: number, columns: number) => spelled(autoencoderKLDecoderChain(config, { height: rows, width: columns }));
	const run = async (chain: Chain, input: string, output: string, value: Tensor, options: RunOptions) => {
		const rows = value.shape[0]!;
		// Pixels weigh, on either side.
		const elementsPerRow = Math.max(sizeOf(value.shape.slice(1)), sizeOf(value.shape.slice(2)) * factor ** 2);
		const results = await withForward(chain, part, { ...options, rows, elementsPerRow }, (forward) => forward.run({ [input]: value }));
		return results[output] as Tensor<'float32'>;
	};
	return {
		factor,
		sampleChannels: config.latent_channels,
		imageChannels: config.in_channels,
		check({ height, width }, encodes) {
			checkWeights(decoder(height / factor, width / factor), part);
			if (encodes) checkWeights(encoder({ height, width }), part);
		},
		async encode(images, options) {
			const [, , height, width] = images.shape as [number, number, number, number];
			const mean = await run(encoder({ height, width }), 'x', 'mean', images, options);
			return scaled(mean, config, (z, { shift, scale }) => (z - shift) * scale);
		},
		async decode(samples, options) {
			const [, , rows, columns] = samples.shape as [number, number, number, number];
			const z = scaled(samples, config, (x, { shift, scale }) => x / scale + shift);
			const images = await run(decoder(rows, columns), 'z', 'sample', z, options);
			return { ...images, data: clipped(images.data) };
		},
	};
}

/** Applies `change` to latents with the shift and scale of their channel: `latents_mean` and `latents_std` where the config has both. */
function scaled(
	latents: Tensor<'float32'>,
	config: AutoencoderKLConfig,
	change: (value: number, by: { readonly shift: number; readonly scale: number }) => number,
): Tensor<'float32'> {
	const { latents_mean: means, latents_std: deviations, scaling_factor, shift_factor } = config;
	const channels = latents.shape[1]!;
	const plane = sizeOf(latents.shape.slice(2));
	const by = Array.from({ length: channels }, (_, c) =>
		means && deviations
			? { shift: means[c] ?? 0, scale: scaling_factor / (deviations[c] ?? 1) }
			: { shift: shift_factor ?? 0, scale: scaling_factor },
	);
	return { ...latents, data: latents.data.map((value, i) => change(value, by[Math.floor(i / plane) % channels]!)) };
}

/** Values beyond [-1, 1] at its ends; NaN stays. */
function clipped(values: Float32Array): Float32Array {
	return values.map((v) => Math.max(-1, Math.min(1, v)));
}
