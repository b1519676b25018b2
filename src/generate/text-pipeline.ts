/** @file Pipelines from texts to images, and from images to images, whatever their models: what families share. */
import { DiffusionPipeError } from '../core/errors.ts';
import { sizeOf, type Tensor, zeros } from '../core/tensor.ts';
import type { Sampler } from '../diffusion/samplers/index.ts';
import { createDenoiser, type Denoiser } from '../models/index.ts';
import { controlImageInput, controlledDenoiser, controlScaleInput } from './control.ts';
import { denoiseSamples, gathered, imageNoise, plainLayout, predictor, repeated, type SampleLayout, stopWhenAborted } from './denoising.ts';
import { checkGiven } from './given.ts';
import { readImage } from './image-file.ts';
import { imageSize, type PixelSize } from './image-size.ts';
import { checkWeights, denoiserName, type ModelPart, openPart, type WeightSource, withForward } from './parts.ts';
import type { Generated, GenerateOptions, OpenOptions, Pipeline, PipelineClass, PipelineFolder } from './pipeline.ts';
import { type Prediction, pipelineSampler, startStep } from './schedule.ts';
import { type EncodedTexts, encodeTexts, type OpenTextEncoder, openTextEncoder, type TextUse } from './texts.ts';
import { type ImageCodec, pixelCodec, vaeCodec } from './vae.ts';

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
	readonly prediction: Prediction;
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

/** The class of pipelines of `family`. */
export function textPipeline(family: TextFamily): PipelineClass {
	return async (place, options) => {
		const models: ModelPart[] = [];
		const keep = <P extends ModelPart>(part: P): P => {
			models.push(part);
			return part;
		};
		const close = async () => {
			for (const { weights } of models) await weights.close();
		};
		try {
			return await open(family, place, options, keep, close);
		} catch (error) {
			await close();
			throw error;
		}
	};
}

async function open(
	family: TextFamily,
	place: PipelineFolder,
	options: OpenOptions,
	keep: (part: ModelPart) => ModelPart,
	close: () => Promise<void>,
): Promise<Pipeline> {
	const { folder, index } = place;
	const main = keep(await openPart(folder, index, denoiserName(folder, index)));
	const config = (typeof main.config === 'object' && main.config !== null ? main.config : {}) as Readonly<Record<string, unknown>>;
	const encoders: (OpenTextEncoder | undefined)[] = [];
	for (const use of family.texts(config)) {
		const encoder = await openTextEncoder(folder, index, use);
		if (encoder) keep(encoder.part);
		encoders.push(encoder);
	}
	// Null: trained on pixels. A published pipeline always has one.
	const codec = index.parts.vae === null ? pixelCodec : vaeCodec(keep(await openPart(folder, index, 'vae')));
	const control = index.parts.controlnet
		? keep(await openPart(folder, index, 'controlnet'))
		: options.controlNet && keep(options.controlNet);
	const parts: Parts = { family, place, options, main, config, encoders, codec, control };
	return {
		folder,
		className: index.className,
		takes: 'prompts',
		classes: undefined,
		labelCount: undefined,
		generate: (given) => generate(parts, given),
		close,
	};
}

/** An open pipeline. */
interface Parts {
	readonly family: TextFamily;
	readonly place: PipelineFolder;
	readonly options: OpenOptions;
	readonly main: ModelPart;
	readonly config: Readonly<Record<string, unknown>>;
	readonly encoders: readonly (OpenTextEncoder | undefined)[];
	readonly codec: ImageCodec;
	readonly control: ModelPart | undefined;
}

/** Everything about one run that is known before any work. */
interface Plan {
	readonly size: PixelSize;
	/** Of one sample. */
	readonly shape: readonly [number, number, number];
	readonly denoiser: Denoiser;
	readonly source: WeightSource;
	readonly sampler: Sampler;
	readonly firstStep: number;
	readonly guidanceScale: number;
	readonly guided: boolean;
	/** Distinct texts; the negative one last when guided. */
	readonly texts: readonly string[];
	/** Row of `texts` of each image. */
	readonly rows: readonly number[];
	/** How often each image's prompt stands before it. */
	readonly repeats: readonly number[];
	readonly image: Tensor<'float32'> | undefined;
	readonly control: { readonly image: Tensor<'float32'>; readonly scale: number; readonly promptOnly: boolean } | undefined;
}

async function generate(parts: Parts, given: GenerateOptions): Promise<Generated> {
	const plan = await prepare(parts, given);
	const { codec, options: run } = parts;
	const { shape, sampler, firstStep, rows } = plan;
	const say = (text: string) => given.onEvent?.({ kind: 'note', text });
	const images = rows.length;
	const noise = imageNoise(given.seed ?? 0, plan.repeats, sizeOf(shape));
	let x0: Float32Array | undefined;
	if (plan.image) {
		say('encoding the image');
		const latents = await codec.encode(plan.image, run);
		x0 = gathered(latents, new Array<number>(images).fill(0)).data as Float32Array;
	}
	let samples = x0;
	if (firstStep < sampler.timesteps.length) {
		const start = noise.start(0);
		samples = x0 ? sampler.addNoise(x0, start, sampler.timesteps[firstStep]!) : start.map((v) => v * sampler.initNoiseSigma);
		samples = await denoise(parts, plan, given, await encodeConditions(parts, plan, given, say), samples, noise.later);
	}
	stopWhenAborted(given.signal, 'before decoding');
	say(`decoding ${images} image${images === 1 ? '' : 's'}`);
	const decoded = await codec.decode({ dtype: 'float32', shape: [images, ...shape], data: samples! }, run);
	return { images: decoded.data, shape: decoded.shape as readonly [number, number, number, number] };
}

/** Checks everything that can be checked without running a model. */
async function prepare(parts: Parts, given: GenerateOptions): Promise<Plan> {
	const { family, place, config, codec, encoders, main } = parts;
	checkGiven(given, 'prompts', place.folder);
	const { defaults, classifierFree } = family;
	const guidanceScale = given.guidanceScale ?? defaults.guidanceScale;
	const guided = classifierFree && guidanceScale > 1;
	if (given.negativePrompt !== undefined && !guided) {
		throw new DiffusionPipeError('usage', 'a negative prompt has no effect', {
			place: 'negativePrompt',
			expected: classifierFree ? 'a guidance scale above 1' : 'a model with classifier-free guidance',
			found: classifierFree ? `guidance scale ${guidanceScale}` : `${place.index.className}, whose guidance is a number its model takes`,
			hint: 'leave out the negative prompt',
		});
	}
	const patch = family.patch(config);
	const size = imageSize(given, config.sample_size ?? family.sampleSize, codec.factor, codec.factor * patch);
	const [rows, columns] = [size.height / codec.factor, size.width / codec.factor];
	const tokens = family.textTokens(encoders.map((e) => e?.tokens));
	const { denoiser, source, control } = await denoiserFor(parts, given, { height: rows, width: columns, tokens });
	const channels = codec.sampleChannels ?? Number(denoiser.config.in_channels);
	const shape = [channels, rows, columns] as const;
	const own = denoiser.chain.inputs[denoiser.sample]!.shape;
	if (sizeOf(own) !== sizeOf(shape)) {
		throw new DiffusionPipeError('config', 'the denoiser does not take the latents of the autoencoder', {
			place: main.place,
			expected: `${channels} channels`,
			found: `in_channels ${String(denoiser.config.in_channels)}`,
			hint: 'models for inpainting or with further image inputs are not supported',
		});
	}
	const steps = given.steps ?? defaults.steps;
	const prompts = given.prompts!.map((text) => family.prepare?.(text) ?? text);
	const sampler = pipelineSampler(place.scheduler, place.schedulerFile, {
		steps,
		images: prompts.length,
		className: given.scheduler,
		prediction: family.prediction,
		imageTokens: (rows * columns) / patch ** 2,
		evenSigmas: family.evenSigmas ?? false,
	});
	const distinct = [...new Set(prompts)];
	const negative = given.negativePrompt ?? '';
	const plan: Plan = {
		size,
		shape,
		denoiser,
		source,
		sampler,
		firstStep: given.image === undefined ? 0 : startStep(steps, given.strength ?? defaults.strength, family.prediction),
		guidanceScale,
		guided,
		texts: guided ? [...distinct, family.prepare?.(negative) ?? negative] : distinct,
		rows: prompts.map((text) => distinct.indexOf(text)),
		repeats: prompts.map((text, i) => prompts.slice(0, i).filter((other) => other === text).length),
		image: given.image === undefined ? undefined : await readImage(given.image, { channels: channelsOf(codec, channels), ...size }),
		control,
	};
	checkConditions(parts, plan, given);
	checkWeights(denoiser.chain, source);
	codec.check(size, given.image !== undefined);
	return plan;
}

/** Channels of image files: grey or RGB. */
function channelsOf(codec: ImageCodec, sampleChannels: number): 1 | 3 {
	return (codec.imageChannels ?? sampleChannels) === 1 ? 1 : 3;
}

async function denoiserFor(
	{ family, main, control, place }: Parts,
	given: GenerateOptions,
	size: { readonly height: number; readonly width: number; readonly tokens: number },
): Promise<Pick<Plan, 'denoiser' | 'source' | 'control'>> {
	if ((control === undefined) !== (given.controlImage === undefined)) {
		throw new DiffusionPipeError('usage', control ? 'the ControlNet has no image' : 'there is no ControlNet for the image', {
			place: 'controlImage',
			expected: control ? 'an image of conditions' : `a part controlnet in ${place.folder}, or a ControlNet given beside it`,
			hint: control ? '--control-image edges.png' : '--controlnet folder',
		});
	}
	if (!control) {
		const denoiser = createDenoiser(main.className, main.config, main.place, {
			...size,
			...(family.attentionMask ? { attentionMask: true } : {}),
		});
		return { denoiser, source: main, control: undefined };
	}
	const { denoiser, source, image: shape, promptOnly } = controlledDenoiser(main, control, size);
	const [channels, height, width] = shape;
	const image = await readImage(given.controlImage!, { channels: channels === 1 ? 1 : 3, height, width });
	const unit = { ...image, data: image.data.map((v) => (v + 1) / 2) };
	return { denoiser, source, control: { image: unit, scale: given.controlScale ?? 1, promptOnly } };
}

/** Makes the conditions of texts that are all zero, and compares their shapes with what the denoiser takes. */
function checkConditions(parts: Parts, plan: Plan, given: GenerateOptions): void {
	const { encoders, main, place } = parts;
	const one = encoders.map((e) =>
		e === undefined
			? undefined
			: {
					outputs: Object.fromEntries(Object.entries(e.types).map(([name, { dtype, shape }]) => [name, zeros(dtype, shape)])),
					attentionMask: zeros('int64', [1, e.tokens]),
				},
	);
	const made = conditionsOf(parts, plan, given, one, 1);
	for (const [name, { dtype, shape }] of Object.entries(plan.denoiser.conditioning)) {
		if (name === controlImageInput || name === controlScaleInput) continue;
		const found = made[name];
		if (found?.dtype === dtype && found.shape.slice(1).join() === shape.join()) continue;
		throw new DiffusionPipeError('config', `the denoiser takes another ${name} than ${place.index.className} gives`, {
			place: main.place,
			expected: found ? `[${found.shape.slice(1).join(', ')}]` : `no ${name}`,
			found: `[${shape.join(', ')}]`,
			hint: 'denoiser and text encoders must be from one pipeline',
		});
	}
}

function conditionsOf(
	{ family, place }: Parts,
	{ size, guidanceScale, denoiser, guided }: Plan,
	{ negativePrompt }: GenerateOptions,
	texts: readonly (EncodedTexts | undefined)[],
	rows: number,
): Readonly<Record<string, Tensor>> {
	const negative = guided ? { row: rows - 1, given: negativePrompt !== undefined } : undefined;
	return family.conditions({ texts, rows, negative, size, guidanceScale, denoiser, options: place.index.options });
}

/** Encodes the texts and lays the denoiser's conditions out: a row per image, then with guidance as many of the negative text. */
async function encodeConditions(
	parts: Parts,
	plan: Plan,
	given: GenerateOptions,
	say: (text: string) => void,
): Promise<Readonly<Record<string, Tensor>>> {
	const { texts, rows, guided, denoiser, control } = plan;
	const encoded: (EncodedTexts | undefined)[] = [];
	for (const encoder of parts.encoders) {
		stopWhenAborted(given.signal, 'before encoding the texts');
		if (encoder) say(`encoding ${texts.length} text${texts.length === 1 ? '' : 's'} with ${encoder.use.encoder}`);
		const onCut = (cut: readonly number[], tokens: number) => {
			for (const i of cut) say(`only the first ${tokens} tokens are read of: ${texts[i]!.slice(0, 40)}...`);
		};
		encoded.push(encoder && (await encodeTexts(encoder, texts, parts.options, onCut)));
	}
	const made = conditionsOf(parts, plan, given, encoded, texts.length);
	const all = guided ? [...rows, ...rows.map(() => texts.length - 1)] : rows;
	const conditions: Record<string, Tensor> = {};
	for (const name of Object.keys(denoiser.conditioning)) if (made[name]) conditions[name] = gathered(made[name], all);
	if (control) {
		conditions[controlImageInput] = gathered(
			control.image,
			all.map(() => 0),
		);
		const scales = all.map((_, r) => (control.promptOnly && r >= rows.length ? 0 : control.scale));
		conditions[controlScaleInput] = { dtype: 'float32', shape: [all.length], data: Float32Array.from(scales) };
	}
	return conditions;
}

async function denoise(
	{ family, options }: Parts,
	{ denoiser, source, shape, sampler, firstStep, rows, guided, guidanceScale }: Plan,
	{ signal, onEvent }: GenerateOptions,
	conditions: Readonly<Record<string, Tensor>>,
	samples: Float32Array,
	noise: (step: number) => Float32Array,
): Promise<Float32Array> {
	stopWhenAborted(signal, 'before denoising');
	onEvent?.({ kind: 'note', text: `denoising with ${denoiser.chain.name}` });
	const images = rows.length;
	const size = sizeOf(shape);
	return withForward(denoiser.chain, source, { ...options, rows: guided ? 2 * images : images, elementsPerRow: size }, (forward) =>
		denoiseSamples({
			sampler,
			samples,
			firstStep,
			predict: predictor({
				denoiser,
				forward,
				images,
				conditions,
				guidanceScale: guided ? guidanceScale : undefined,
				layout: family.layout?.(shape) ?? plainLayout(size),
			}),
			noise,
			signal,
			onStep: (step, steps) => onEvent?.({ kind: 'step', step, steps }),
		}),
	);
}

/** A conditioning input that is the same in every row. */
export function sameRows(values: readonly number[], shape: readonly number[], rows: number): Tensor {
	return repeated({ dtype: 'float32', shape, data: Float32Array.from(values) }, rows);
}
