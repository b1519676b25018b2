/** @file Denoisers that see other images beside the noised sample, as channels of their own behind its channels. */
import { DiffusionPipeError } from '../core/errors.ts';
import type { Shape } from '../core/tensor.ts';
import type { ChainInput, Layer } from '../nn/chain.ts';
import type { Denoiser } from './index.ts';

/** Channels, rows and columns of a denoiser's sample. Throws a config error for models whose samples are no images (Flux's packed tokens). */
function imageShape({ chain, sample }: Denoiser, place: string): readonly [number, number, number] {
	const { shape } = chain.inputs[sample]!;
	if (shape.length === 3) return shape as readonly [number, number, number];
	throw new DiffusionPipeError('config', 'the samples have no channels to put others beside', {
		place,
		expected: 'a model of samples [channels, height, width]',
		found: `[${shape.join(', ')}]`,
	});
}

/**
 * `denoiser`, built for the channels of the sample and of `others` together, as one that takes each by itself: its sample has the channels that are left,
 * and every name of `others` is a chain input of that many channels. Weights and layers keep their names and numbers. Throws a config error when no channel
 * is left for the sample.
 */
export function concatenated(denoiser: Denoiser, others: Readonly<Record<string, number>>, place = 'model'): Denoiser {
	const { chain, sample } = denoiser;
	const [all, height, width] = imageShape(denoiser, place);
	const channels = all - Object.values(others).reduce((a, b) => a + b, 0);
	if (channels < 1) {
		throw new DiffusionPipeError('config', 'has too few channels', {
			place: `${place}.in_channels`,
			expected: `those of the sample and ${Object.entries(others).map(([name, count]) => `${count} of ${name}`)}`,
			found: String(all),
		});
	}
	const input = (count: number): ChainInput => ({ dtype: 'float32', shape: [count, height, width] satisfies Shape });
	const [first, ...rest] = chain.layers as [Layer, ...Layer[]];
	const joined: Layer = {
		...first,
		build(ctx, live) {
			live.set(sample, ctx.g.concat([live.get(sample), ...Object.keys(others).map((name) => live.get(name))], 1));
			first.build(ctx, live);
		},
	};
	const inputs = Object.fromEntries(Object.entries(others).map(([name, count]) => [name, input(count)]));
	return { ...denoiser, chain: { ...chain, inputs: { ...chain.inputs, [sample]: input(channels), ...inputs }, layers: [joined, ...rest] } };
}

/** The key of `config.json` that names images beside the sample with their channels, as `{"low_resolution": 3}`; diffusers reads no key with an underscore. */
export const concatenatedKey = '_concatenated';

/** The conditioning input of the model of a cascade that enlarges: the small image, enlarged, [channels, height, width]. */
export const lowResolution = 'low_resolution';

/** `denoiser` as its `config.json` has it: what it sees beside its sample, `others`, is conditioning. Throws a config error when they are no numbers of channels. */
export function conditionedOn(denoiser: Denoiser, others: unknown, place = 'model'): Denoiser {
	const given = typeof others === 'object' && others !== null ? Object.entries(others) : [];
	if (given.length === 0 || given.some(([, count]) => !Number.isSafeInteger(count) || count < 1)) {
		throw new DiffusionPipeError('config', 'has a wrong value', {
			place: `${place}.${concatenatedKey}`,
			expected: 'names of inputs with their numbers of channels',
			found: JSON.stringify(others) ?? 'nothing',
		});
	}
	const whole = concatenated(denoiser, others as Readonly<Record<string, number>>, place);
	const inputs = Object.fromEntries(given.map(([name]) => [name, whole.chain.inputs[name]!]));
	return { ...whole, conditioning: { ...whole.conditioning, ...inputs } };
}

/** The `config.json` of a model that sees an image of its sample's channels beside it, from that of the model without. */
export function conditionedConfig(plain: Denoiser, input: string): Readonly<Record<string, unknown>> {
	const [channels] = imageShape(plain, 'model');
	return {
		...plain.config,
		in_channels: 2 * channels,
		out_channels: plain.config.out_channels ?? channels,
		[concatenatedKey]: { [input]: channels },
	};
}

/** What a self-conditioned denoiser is told beside its sample. */
export interface SelfConditioning {
	/** Chain input of the estimate of the clean sample, of the sample's shape; zeros where there is none. */
	readonly input: string;
	/** Estimates are clipped to [-limit, limit]. */
	readonly limit: number;
}

/** The key of `config.json` that makes a denoiser self-conditioned: the limit. */
export const selfConditioningKey = '_self_conditioning';

/** `denoiser`, built for twice the sample's channels, with its own earlier estimate beside the sample (Chen et al., arXiv 2208.04202, section 3.2). */
export function selfConditioned(denoiser: Denoiser, limit: unknown, place = 'model'): Denoiser {
	const [all] = imageShape(denoiser, place);
	if (typeof limit !== 'number' || !(limit > 0)) {
		throw new DiffusionPipeError('config', 'has a wrong value', {
			place: `${place}.${selfConditioningKey}`,
			expected: 'the largest magnitude of estimates, above 0',
			found: JSON.stringify(limit) ?? 'nothing',
		});
	}
	if (all % 2 === 1) {
		throw new DiffusionPipeError('config', 'a self-conditioned model takes twice the channels of its samples', {
			place: `${place}.in_channels`,
			expected: 'an even number',
			found: String(all),
		});
	}
	const input = 'self_cond';
	return { ...concatenated(denoiser, { [input]: all / 2 }, place), selfConditioning: { input, limit } };
}

/** The `config.json` of a self-conditioned model from that of the model without: twice the channels in, as many out. */
export function selfConditionedConfig(plain: Denoiser, limit: number): Readonly<Record<string, unknown>> {
	const [channels] = imageShape(plain, 'model');
	return { ...plain.config, in_channels: 2 * channels, out_channels: plain.config.out_channels ?? channels, [selfConditioningKey]: limit };
}
