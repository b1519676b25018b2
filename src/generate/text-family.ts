/** @file What is particular about the pipelines of one family of text-to-image models, as data. */
import type { Tensor } from '../core/tensor.ts';
import type { Denoiser } from '../models/index.ts';
import { repeated, type SampleLayout } from './denoising.ts';
import type { PixelSize } from './image-size.ts';
import type { Prediction } from './schedule.ts';
import type { EncodedTexts, TextUse } from './texts.ts';

/** What a family's conditions are made of. */
export interface ConditionRequest {
	/** By the family's text encoders, in their order; undefined for one that the folder does not have. One row per text in each. */
	readonly texts: readonly (EncodedTexts | undefined)[];
	readonly rows: number;
	/** Row of the text that guidance leads away from, and whether somebody gave it. */
	readonly negative: { readonly row: number; readonly given: boolean } | undefined;
	readonly size: PixelSize;
	readonly guidanceScale: number;
	readonly denoiser: Denoiser;
	/** Further entries of `model_index.json`. */
	readonly options: Readonly<Record<string, unknown>>;
}

/** What is particular about the pipelines of one family. */
export interface TextFamily {
	/** Of the published pipelines: steps, guidance scale, and strength where an image is given. */
	readonly defaults: { readonly steps: number; readonly guidanceScale: number; readonly strength: number };
	/** Undefined where models are of any kind: their own scheduler tells. */
	readonly prediction: Prediction | undefined;
	/** False for models that take the guidance scale as a number: there is no pass without the prompt. */
	readonly classifierFree: boolean;
	/** The text encoders, for the `config.json` of the denoiser. */
	readonly texts: (denoiserConfig: Readonly<Record<string, unknown>>) => readonly TextUse[];
	/** What is done to a text first. */
	readonly prepare?: (text: string) => string;
	/** Tokens of the text as the denoiser sees it, from those of the encoders. */
	readonly textTokens: (tokens: readonly (number | undefined)[]) => number;
	/** True when the denoiser does not look at padding. */
	readonly attentionMask?: boolean;
	/** Rows and columns of a sample that make one token: the size must be a multiple of it. */
	readonly patch: (denoiserConfig: Readonly<Record<string, unknown>>) => number;
	/** Rows and columns of samples where `sample_size` is not in the denoiser's config. */
	readonly sampleSize?: number;
	/** How samples [channels, rows, columns] become the model's rows; as they are unless given. */
	readonly layout?: (shape: readonly [number, number, number]) => SampleLayout;
	/** See `ScheduleRequest`. */
	readonly evenSigmas?: boolean;
	/** The denoiser's conditioning inputs, `rows` rows each. */
	readonly conditions: (request: ConditionRequest) => Readonly<Record<string, Tensor>>;
}

/** A conditioning input that is the same in every row. */
export function sameRows(values: readonly number[], shape: readonly number[], rows: number): Tensor {
	return repeated({ dtype: 'float32', shape, data: Float32Array.from(values) }, rows);
}
