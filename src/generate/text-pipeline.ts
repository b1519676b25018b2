/** @file Pipelines from texts to images, and from images to images, whatever their models: what families share. */
import { sizeOf, type Tensor } from '../core/tensor.ts';
import { controlImageInput, controlScaleInput } from './control.ts';
import { denoiseSamples, gathered, imageNoise, plainLayout, predictor, stopWhenAborted } from './denoising.ts';
import { sectionsNote, withDenoiser } from './in-sections.ts';
import { withLora } from './lora.ts';
import { denoiserName, type ModelPart, openPart } from './parts.ts';
import type { Generated, GenerateOptions, OpenOptions, Pipeline, PipelineClass, PipelineFolder } from './pipeline.ts';
import type { TextFamily } from './text-family.ts';
import { conditionsOf, planTexts, type TextParts, type TextPlan } from './text-plan.ts';
import { type EncodedTexts, encodeTexts, type OpenTextEncoder, openTextEncoder } from './texts.ts';
import { pixelCodec, vaeCodec } from './vae.ts';

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
	const own = keep(await openPart(folder, index, denoiserName(folder, index)));
	const main = await withLora(own, folder, options);
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
	const parts: TextParts = { family, place, options, main, config, encoders, codec, control };
	return {
		folder,
		className: index.className,
		takes: 'prompts',
		classes: undefined,
		labelCount: undefined,
		sampling: place.sampling,
		generate: (given) => generate(parts, given),
		close,
	};
}

async function generate(parts: TextParts, given: GenerateOptions): Promise<Generated> {
	const plan = await planTexts(parts, given);
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

/** Encodes the texts and lays the denoiser's conditions out: a row per image, then with guidance as many of the negative text. */
async function encodeConditions(
	parts: TextParts,
	plan: TextPlan,
	given: GenerateOptions,
	say: (text: string) => void,
): Promise<Readonly<Record<string, Tensor>>> {
	const { texts, rows, guided, denoiser, control } = plan;
	const encoded: (EncodedTexts | undefined)[] = [];
	for (const encoder of parts.encoders) {
		stopWhenAborted(given.signal, 'before encoding the texts');
		if (encoder) say(`encoding ${texts.length} text${texts.length === 1 ? '' : 's'} with ${encoder.use.encoder}`);
		const onCut = (cut: readonly number[], tokens: number) => {
			for (const i of cut) say(`only the first ${tokens} tokens are read of: ${shortened(texts[i]!)}`);
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

function shortened(text: string): string {
	return text.length > 40 ? `${text.slice(0, 40)}...` : text;
}

async function denoise(
	{ family, options }: TextParts,
	{ denoiser, source, shape, sampler, firstStep, rows, guided, guidanceScale }: TextPlan,
	{ signal, onEvent }: GenerateOptions,
	conditions: Readonly<Record<string, Tensor>>,
	samples: Float32Array,
	noise: (step: number) => Float32Array,
): Promise<Float32Array> {
	stopWhenAborted(signal, 'before denoising');
	onEvent?.({ kind: 'note', text: `denoising with ${denoiser.chain.name}` });
	const images = rows.length;
	const size = sizeOf(shape);
	const onSections = (bytes: number) => onEvent?.({ kind: 'note', text: sectionsNote(bytes) });
	return withDenoiser(
		denoiser.chain,
		source,
		{ ...options, rows: guided ? 2 * images : images, elementsPerRow: size, onSections },
		(forward) =>
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
