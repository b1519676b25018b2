/** @file One run of a text-to-image pipeline, planned: everything that can be checked without running a model. */
import { DiffusionPipeError } from '../core/errors.ts';
import { sizeOf, type Tensor, zeros } from '../core/tensor.ts';
import type { Sampler } from '../diffusion/samplers/index.ts';
import { createDenoiser, type Denoiser } from '../models/index.ts';
import { controlImageInput, controlledDenoiser, controlScaleInput, joinedWeights } from './control.ts';
import { checkGiven } from './given.ts';
import { readImage } from './image-file.ts';
import { imageSize, type PixelSize } from './image-size.ts';
import { checkWeights, type ModelPart, type WeightSource } from './parts.ts';
import type { GenerateOptions, OpenOptions, PipelineFolder } from './pipeline.ts';
import { pipelineSampler, predictionOf, startStep } from './schedule.ts';
import type { TextFamily } from './text-family.ts';
import type { EncodedTexts, OpenTextEncoder } from './texts.ts';
import type { ImageCodec } from './vae.ts';

/** An open pipeline from texts to images. */
export interface TextParts {
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
export interface TextPlan {
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

/** Checks everything that can be checked without running a model. */
export async function planTexts(parts: TextParts, given: GenerateOptions): Promise<TextPlan> {
	const { family, place, config, codec, encoders, main } = parts;
	checkGiven(given, 'prompts', place.folder);
	const { classifierFree } = family;
	const defaults = { ...family.defaults, ...place.sampling };
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
	const prediction = family.prediction ?? predictionOf(place.scheduler);
	const sampler = pipelineSampler(place.scheduler, place.schedulerFile, {
		steps,
		images: prompts.length,
		className: given.scheduler,
		prediction,
		imageTokens: (rows * columns) / patch ** 2,
		evenSigmas: family.evenSigmas ?? false,
	});
	const distinct = [...new Set(prompts)];
	const negative = given.negativePrompt ?? '';
	const plan: TextPlan = {
		size,
		shape,
		denoiser,
		source,
		sampler,
		firstStep: given.image === undefined ? 0 : startStep(sampler, given.strength ?? defaults.strength, prediction),
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
	{ family, main, control, place }: TextParts,
	given: GenerateOptions,
	size: { readonly height: number; readonly width: number; readonly tokens: number },
): Promise<Pick<TextPlan, 'denoiser' | 'source' | 'control'>> {
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
	const { denoiser, image: shape, promptOnly } = controlledDenoiser(main, control, size);
	const [channels, height, width] = shape;
	const image = await readImage(given.controlImage!, { channels: channels === 1 ? 1 : 3, height, width });
	const unit = { ...image, data: image.data.map((v) => (v + 1) / 2) };
	return { denoiser, source: joinedWeights(main, control), control: { image: unit, scale: given.controlScale ?? 1, promptOnly } };
}

/** Makes the conditions of texts that are all zero, and compares their shapes with what the denoiser takes. */
function checkConditions(parts: TextParts, plan: TextPlan, given: GenerateOptions): void {
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

/** The denoiser's conditioning inputs, one row per text. */
export function conditionsOf(
	{ family, place }: TextParts,
	{ size, guidanceScale, denoiser, guided }: TextPlan,
	{ negativePrompt }: GenerateOptions,
	texts: readonly (EncodedTexts | undefined)[],
	rows: number,
): Readonly<Record<string, Tensor>> {
	const negative = guided ? { row: rows - 1, given: negativePrompt !== undefined } : undefined;
	return family.conditions({ texts, rows, negative, size, guidanceScale, denoiser, options: place.index.options });
}
