/** @file The text encoders by the class names of `model_index.json`. Adding one is one file and one entry here. */
import { DiffusionPipeError, nearestName } from '../core/errors.ts';
import type { Chain } from '../nn/chain.ts';
import { type CLIPTextOptions, clipTextChain, readCLIPTextConfig } from './clip-text.ts';
import { readT5Config, t5EncoderChain } from './t5-encoder.ts';

/** A text encoder: chain input `input_ids` (and `attention_mask` where asked for), outputs as asked for. */
export interface Encoder {
	/** The config as it was read, to be saved again. */
	readonly config: Readonly<Record<string, unknown>>;
	readonly chain: Chain;
}

/** What an encoder is built for beside its config. */
export interface EncoderOptions {
	/** Tokens of a text. Default: CLIP's number of positions, 512 for T5. */
	readonly tokens?: number;
	/** Adds the input attention_mask, for padding that is not to be looked at; T5 alone takes it. */
	readonly attentionMask?: boolean;
	/** Chain outputs, as `hidden_states.11` or `pooler_output`. Default: what the model's class returns. */
	readonly outputs?: readonly string[];
	/** Names in the checkpoint to load, where two spellings of the parameters are about. Default: as the library version in the config saves them. */
	readonly weightNames?: Iterable<string>;
}

/** Builds an encoder from its `config.json`; throws a config error naming the option that does not fit. */
export type EncoderClass = (raw: unknown, place?: string, options?: EncoderOptions) => Encoder;

export const encoders: Readonly<Record<string, EncoderClass>> = {
	CLIPTextModel: (raw, place, options = {}) => clip(raw, place, { prefix: textModelPrefix(raw, options.weightNames) }, options),
	// Its parameters kept their path when those of CLIPTextModel lost it.
	CLIPTextModelWithProjection: (raw, place, options = {}) => clip(raw, place, { projection: true }, options),
	T5EncoderModel: (raw, place, { tokens, attentionMask, outputs } = {}) => {
		const config = readT5Config(raw, place);
		return { config: { ...(raw as object) }, chain: t5EncoderChain(config, given({ tokens, attentionMask, outputs })) };
	},
};

function clip(raw: unknown, place: string | undefined, kind: CLIPTextOptions, { tokens, outputs, attentionMask }: EncoderOptions): Encoder {
	if (attentionMask) {
		throw new DiffusionPipeError('config', 'the encoder takes no attention mask', {
			place: place ?? 'CLIPTextModel',
			hint: 'leave out attentionMask: its attention never sees the padding after a text',
		});
	}
	return {
		config: { ...(raw as object) },
		chain: clipTextChain(readCLIPTextConfig(raw, place), { ...kind, ...given({ tokens, outputs }) }),
	};
}

/** Path of a CLIPTextModel's parameters: transformers saved them under `text_model` before version 5.6. */
function textModelPrefix(raw: unknown, weightNames: Iterable<string> | undefined): string {
	if (weightNames !== undefined) return [...weightNames].some((name) => name.startsWith('text_model.')) ? 'text_model' : '';
	const version = String((raw as { transformers_version?: unknown } | null)?.transformers_version ?? '');
	const [major = 0, minor = 0] = version.split('.').map(Number);
	return major > 5 || (major === 5 && minor >= 6) ? '' : 'text_model';
}

/** The entries that are not undefined. */
function given<T extends object>(entries: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
	return Object.fromEntries(Object.entries(entries).filter(([, v]) => v !== undefined)) as { [K in keyof T]?: Exclude<T[K], undefined> };
}

/** The encoder of class `className`. Throws a config error naming the nearest class we have. */
export function createEncoder(className: string, raw: unknown, place?: string, options?: EncoderOptions): Encoder {
	const make = Object.hasOwn(encoders, className) ? encoders[className] : undefined;
	if (!make) {
		const near = nearestName(className, Object.keys(encoders));
		throw new DiffusionPipeError('config', `text encoder class ${className} is not known`, {
			place: place ?? 'text encoder',
			expected: Object.keys(encoders).join(', '),
			...(near ? { hint: `did you mean ${near}?` } : {}),
		});
	}
	return make(raw, place, options);
}
