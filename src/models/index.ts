/** @file The models by the class names of `config.json`. Adding one is one file and one line here. */
import { DiffusionPipeError, nearestName } from '../core/errors.ts';
import type { Chain } from '../nn/chain.ts';
import { ditChain, readDiTConfig } from './dit.ts';

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
}

/** Builds a denoiser from its `config.json`; throws a config error naming the option that does not fit. */
export type DenoiserClass = (raw: unknown, place?: string) => Denoiser;

export const denoisers: Readonly<Record<string, DenoiserClass>> = {
	DiTTransformer2DModel: (raw, place) => {
		const config = readDiTConfig(raw, place);
		return {
			config: { _class_name: 'DiTTransformer2DModel', ...config },
			chain: ditChain(config),
			sample: 'hidden_states',
			output: 'sample',
			labels: { input: 'class_labels', none: config.num_embeds_ada_norm ?? 1000 },
		};
	},
};

/** The denoiser of class `className`. Throws a config error naming the nearest class we have. */
export function createDenoiser(className: string, raw: unknown, place?: string): Denoiser {
	const make = denoisers[className];
	if (!make) {
		const near = nearestName(className, Object.keys(denoisers));
		throw new DiffusionPipeError('config', `model class ${className} is not known`, {
			place: place ?? 'model',
			expected: Object.keys(denoisers).join(', '),
			...(near ? { hint: `did you mean ${near}?` } : {}),
		});
	}
	return make(raw, place);
}
