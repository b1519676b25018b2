/** @file The models by the class names of `config.json`. Adding one is one file and one line here. */
import { DiffusionPipeError, nearestName } from '../core/errors.ts';
import { type Tensor, zeros } from '../core/tensor.ts';
import type { Chain, ChainInput } from '../nn/chain.ts';
import { concatenatedKey, conditionedOn, type SelfConditioning, selfConditioned, selfConditioningKey } from './concatenated.ts';
import { ditChain, readDiTConfig } from './dit.ts';
import { fluxChain, fluxImageIds, readFluxConfig } from './flux.ts';
import { pixartChain, readPixArtConfig } from './pixart.ts';
import type { SizeOptions } from './sample-size.ts';
import { readSD3Config, sd3Chain } from './sd3.ts';
import { readUNetConfig, unetChain } from './unet.ts';
import { readUNetConditionConfig, unetConditionChain } from './unet-condition.ts';

/** A denoiser as training and sampling use it. */
export interface Denoiser {
	/** Checked config with all defaults, as `config.json` holds it. */
	readonly config: Readonly<Record<string, unknown>>;
	readonly chain: Chain;
	/** Chain input that takes the noised sample, and chain output that is the prediction. */
	readonly sample: string;
	readonly output: string;
	/** Chain input of class labels with the label that means no class, for class-conditional models. */
	readonly labels: { readonly input: string; readonly none: number } | undefined;
	/** The other chain inputs, per sample: `encoder_hidden_states` [tokens, width], `time_ids` and the like. Sample, labels and `timestep` apart. */
	readonly conditioning: Readonly<Record<string, ChainInput>>;
	/** Chain inputs that are the same for every sample, without the batch axis: the positions of Flux's tokens. */
	readonly fixed: Readonly<Record<string, Tensor>>;
	/** What the schedule's timestep is multiplied by for the chain input `timestep`: 1 for all but Flux, which takes 0 to 1. */
	readonly timestepScale: number;
	/** Of models that take their own estimate of the clean sample as another input. */
	readonly selfConditioning?: SelfConditioning;
}

/** What a denoiser is built for beside its config: rows and columns of its samples, where they are not the config's, and the length of texts. */
export interface DenoiserOptions extends SizeOptions {
	/** Tokens of `encoder_hidden_states`. Default: what the model's own text encoder gives. */
	readonly tokens?: number;
	/** Adds the input `encoder_attention_mask`, for padding that is not to be looked at; PixArt alone takes it. */
	readonly attentionMask?: boolean;
}

/** Builds a denoiser from its `config.json`; throws a config error naming the option that does not fit. */
export type DenoiserClass = (raw: unknown, place?: string, options?: DenoiserOptions) => Denoiser;

/** The denoiser around `chain`: inputs without a part of their own are its conditioning. */
function denoiser(
	className: string,
	config: object,
	chain: Chain,
	sample: string,
	{ labels, fixed = {}, timestepScale = 1 }: Partial<Pick<Denoiser, 'labels' | 'fixed' | 'timestepScale'>> = {},
): Denoiser {
	const own = new Set([sample, 'timestep', labels?.input, ...Object.keys(fixed)]);
	return {
		config: { _class_name: className, ...config },
		chain,
		sample,
		output: 'sample',
		labels,
		conditioning: Object.fromEntries(Object.entries(chain.inputs).filter(([name]) => !own.has(name))),
		fixed,
		timestepScale,
	};
}

export const denoisers: Readonly<Record<string, DenoiserClass>> = {
	DiTTransformer2DModel: (raw, place, options) => {
		const config = readDiTConfig(raw, place);
		const labels = { input: 'class_labels', none: config.num_embeds_ada_norm ?? 1000 };
		return denoiser('DiTTransformer2DModel', config, ditChain(config, options), 'hidden_states', { labels });
	},
	UNet2DModel: (raw, place, options) => {
		const config = readUNetConfig(raw, place);
		const count = config.class_embed_type === null ? config.num_class_embeds : null;
		// The table has no row for it by itself: the last one is taken, so a model for n classes with guidance has n + 1.
		const labels = count === null ? undefined : { input: 'class_labels', none: count - 1 };
		return denoiser('UNet2DModel', config, unetChain(config, options), 'sample', { labels });
	},
	UNet2DConditionModel: (raw, place, options) => {
		const config = readUNetConditionConfig(raw, place);
		return denoiser('UNet2DConditionModel', config, unetConditionChain(config, options), 'sample');
	},
	PixArtTransformer2DModel: (raw, place, options) => {
		const config = readPixArtConfig(raw, place);
		return denoiser('PixArtTransformer2DModel', config, pixartChain(config, options), 'hidden_states');
	},
	SD3Transformer2DModel: (raw, place, options) => {
		const config = readSD3Config(raw, place);
		return denoiser('SD3Transformer2DModel', config, sd3Chain(config, options), 'hidden_states');
	},
	// Its samples are latents packed two by two: [tokens, 4 * latent channels].
	FluxTransformer2DModel: (raw, place, options) => {
		const config = readFluxConfig(raw, place);
		const chain = fluxChain(config, options);
		const fixed = { img_ids: fluxImageIds(config, options), txt_ids: zeros('float32', chain.inputs.txt_ids!.shape) };
		return denoiser('FluxTransformer2DModel', config, chain, 'hidden_states', { fixed, timestepScale: 1 / 1000 });
	},
};

/** The denoiser of class `className`, with other inputs beside its sample where `raw` has the keys `_concatenated` or `_self_conditioning`. Throws a config error naming the nearest class we have. */
export function createDenoiser(className: string, raw: unknown, place?: string, options?: DenoiserOptions): Denoiser {
	const make = Object.hasOwn(denoisers, className) ? denoisers[className] : undefined;
	if (!make) {
		const near = nearestName(className, Object.keys(denoisers));
		throw new DiffusionPipeError('config', `model class ${className} is not known`, {
			place: place ?? 'model',
			expected: Object.keys(denoisers).join(', '),
			...(near ? { hint: `did you mean ${near}?` } : {}),
		});
	}
	const plain = make(raw, place, options);
	const { [concatenatedKey]: others, [selfConditioningKey]: limit } = raw as Readonly<Record<string, unknown>>;
	const beside = others === undefined ? plain : conditionedOn(plain, others, place);
	const whole = limit === undefined ? beside : selfConditioned(beside, limit, place);
	const keys = {
		...(others === undefined ? {} : { [concatenatedKey]: others }),
		...(limit === undefined ? {} : { [selfConditioningKey]: limit }),
	};
	return { ...whole, config: { ...whole.config, ...keys } };
}
