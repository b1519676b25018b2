/** @file A cascade as one pipeline: the base draws small images, the other model draws them large, told each small image and the label or text. */
import { join } from 'node:path';
import { DiffusionPipeError } from '../core/errors.ts';
import { sizeOf, type Tensor } from '../core/tensor.ts';
import { lowResolution } from '../models/concatenated.ts';
import { createDenoiser, type Denoiser } from '../models/index.ts';
import { cascadeSaveOf, newestCascadeSave } from '../train/cascade/saves.ts';
import { upsampled } from '../train/resize.ts';
import { runFolder } from '../train/run-folder.ts';
import { labelRows } from './denoise.ts';
import { denoiseSamples, gathered, imageNoise, plainLayout, predictor, stopWhenAborted } from './denoising.ts';
import { readPipelineFolder } from './folder.ts';
import { imageSize, type PixelSize } from './image-size.ts';
import { sectionsNote, withDenoiser } from './in-sections.ts';
import type { LoraOptions } from './lora.ts';
import { checkWeights, denoiserName, exists, type ModelPart, openPart, type RunOptions } from './parts.ts';
import type { Generated, GenerateOptions, Pipeline, PipelineFolder } from './pipeline.ts';
import { pipelineClass } from './pipelines/index.ts';
import { pipelineSampler, predictionOf } from './schedule.ts';
import { encodeTexts, type OpenTextEncoder, openTextEncoder } from './texts.ts';
import { pixelCodec } from './vae.ts';

/** Small and large images. */
export interface CascadeImages {
	readonly small: Generated;
	readonly large: Generated;
}

/** Where the pipelines of both models are. */
export interface CascadeFolders {
	readonly base: string;
	readonly super_resolution: string;
}

/** A cascade opened for use; `generate` gives the large images. */
export interface CascadePipeline extends Pipeline {
	/** Like `generate`, with the small images too. */
	draw(options: GenerateOptions): Promise<CascadeImages>;
}

/** How a cascade is run; what other pipelines can be given beside is named here to be refused. */
export interface CascadeOpenOptions extends RunOptions, LoraOptions {
	readonly controlNet?: string | undefined;
}

/** The cascade that `folder` means: a pipeline with another in it, that of a run, a run's newest checkpoints of both models, or those of the step of a checkpoint. Undefined where it means none. */
export async function cascadeFolders(folder: string): Promise<CascadeFolders | undefined> {
	const save = await cascadeSaveOf(folder);
	if (save) return save.paths;
	for (const base of [folder, runFolder(folder).pipeline]) {
		if (!(await exists(join(base, 'model_index.json')))) continue;
		const larger = join(base, 'super_resolution');
		return (await exists(join(larger, 'model_index.json'))) ? { base, super_resolution: larger } : undefined;
	}
	return (await newestCascadeSave(folder))?.paths;
}

/** The model that enlarges, opened and not yet built. */
interface Larger {
	readonly place: PipelineFolder;
	readonly part: ModelPart;
	/** Of its config. */
	readonly sampleSize: unknown;
	/** Pixels of a side of the large image over those of the small one. */
	readonly factor: number;
	readonly encoder: OpenTextEncoder | undefined;
}

/** What the larger model draws, checked. */
interface LargePlan {
	readonly size: PixelSize;
	readonly denoiser: Denoiser;
}

/** Opens both models. The caller closes the pipeline. Throws usage errors for what a cascade does not take, input and config errors for bad folders. */
export async function openCascadePipeline(folders: CascadeFolders, options: CascadeOpenOptions): Promise<CascadePipeline> {
	const run = { devices: options.devices, threads: options.threads };
	for (const [place, given] of [
		['controlNet', options.controlNet],
		['lora', options.lora?.[0]],
		['loraScale', options.loraScale],
	] as const) {
		if (given === undefined) continue;
		throw new DiffusionPipeError('usage', 'is not for cascades', { place, expected: 'a pipeline of one denoiser', found: folders.base });
	}
	const opened: { close(): Promise<void> }[] = [];
	const close = async () => {
		for (const each of opened) await each.close();
	};
	try {
		const place = await readPipelineFolder(folders.base);
		const base = await pipelineClass(place)(place, run);
		opened.push(base);
		const larger = await openLarger(place, folders.super_resolution, opened);
		const draw = (given: GenerateOptions) => drawBoth(base, larger, run, given);
		return { ...base, draw, generate: async (given) => (await draw(given)).large, close };
	} catch (error) {
		await close();
		throw error;
	}
}

async function openLarger(base: PipelineFolder, folder: string, opened: { close(): Promise<void> }[]): Promise<Larger> {
	const place = await readPipelineFolder(folder);
	const open = async (from: PipelineFolder) => {
		const part = await openPart(from.folder, from.index, denoiserName(from.folder, from.index));
		opened.push(part.weights);
		return part;
	};
	const [small, part] = [await open(base), await open(place)];
	const rows = [small, part].map(({ className, config, place: file }) => {
		const { chain, sample } = createDenoiser(className, config, file);
		return chain.inputs[sample]!.shape[1]!;
	});
	const factor = rows[1]! / rows[0]!;
	const { conditioning } = createDenoiser(part.className, part.config, part.place);
	if (!Object.hasOwn(conditioning, lowResolution) || !Number.isInteger(factor)) {
		throw new DiffusionPipeError('config', 'does not enlarge the images of the base', {
			place: part.place,
			expected: `a model with an input ${lowResolution}, a whole number of times larger than the base`,
			found: `inputs ${Object.keys(conditioning).join(', ') || 'none'}, ${rows[1]} rows from ${rows[0]}`,
		});
	}
	const outputs = ['last_hidden_state', ...(Object.hasOwn(conditioning, 'pooled_projections') ? ['text_embeds'] : [])];
	const use = { tokenizer: 'tokenizer', encoder: 'text_encoder', outputs: () => outputs, optional: true };
	const encoder = await openTextEncoder(place.folder, place.index, use);
	if (encoder) opened.push(encoder.part.weights);
	const { sample_size: sampleSize } = part.config as Readonly<Record<string, unknown>>;
	return { place, part, sampleSize, factor, encoder };
}

async function drawBoth(base: Pipeline, larger: Larger, run: RunOptions, given: GenerateOptions): Promise<CascadeImages> {
	const { factor } = larger;
	const stray = (['image', 'strength', 'controlImage', 'controlScale'] as const).find((key) => given[key] !== undefined);
	if (stray) {
		throw new DiffusionPipeError('usage', 'is not for cascades', {
			place: stray,
			expected: 'nothing: a cascade draws from noise alone',
			found: String(given[stray]),
		});
	}
	const plan = planLarge(larger, given);
	const { height, width } = plan.size;
	const small = await base.generate({ ...given, height: height / factor, width: width / factor });
	given.onEvent?.({ kind: 'note', text: `enlarging ${width / factor} x ${height / factor} to ${width} x ${height}` });
	return { small, large: await enlarge(base, larger, plan, run, given, small) };
}

/** Checks what can be checked before any work. */
function planLarge({ part, sampleSize, factor, place, encoder }: Larger, given: GenerateOptions): LargePlan {
	const size = imageSize(given, sampleSize, 1, factor);
	const denoiser = createDenoiser(part.className, part.config, part.place, { ...size, ...(encoder ? { tokens: encoder.tokens } : {}) });
	checkWeights(denoiser.chain, part);
	largeSampler(place, given, 1, size);
	return { size, denoiser };
}

function largeSampler({ scheduler, schedulerFile, sampling }: PipelineFolder, given: GenerateOptions, images: number, size: PixelSize) {
	return pipelineSampler(scheduler, schedulerFile, {
		steps: given.steps ?? sampling.steps ?? 50,
		images,
		className: given.scheduler,
		prediction: predictionOf(scheduler),
		imageTokens: size.height * size.width,
	});
}

async function enlarge(
	{ takes }: Pipeline,
	larger: Larger,
	{ size, denoiser }: LargePlan,
	run: RunOptions,
	given: GenerateOptions,
	small: Generated,
): Promise<Generated> {
	const { place, part, factor } = larger;
	const { seed = 0, signal, onEvent, prompts = [] } = given;
	const [images, channels, rows, columns] = small.shape;
	const sampler = largeSampler(place, given, images, size);
	const guidanceScale = given.guidanceScale ?? place.sampling.guidanceScale ?? 1;
	const isTold = denoiser.labels !== undefined || larger.encoder !== undefined;
	const guided = isTold && (takes === 'prompts' ? guidanceScale > 1 : guidanceScale !== 1);
	const twice = (data: Float32Array): Tensor => {
		const whole = new Float32Array((guided ? 2 : 1) * data.length);
		whole.set(data);
		// It is told the small image with and without the label or text.
		if (guided) whole.set(data, data.length);
		return { dtype: 'float32', shape: [guided ? 2 * images : images, channels, size.height, size.width], data: whole };
	};
	const { labels = Array.from({ length: images }, () => (takes === 'labels' ? 0 : (denoiser.labels?.none ?? 0))) } = given;
	const conditions = {
		[lowResolution]: twice(upsampled(small.images, rows, columns, factor)),
		...labelRows(denoiser, labels, guided),
		...(await textRows(larger, run, given, denoiser, guided)),
	};
	const shape = denoiser.chain.inputs[denoiser.sample]!.shape;
	const length = sizeOf(shape);
	const addresses = Array.from({ length: images }, (_, i) =>
		takes === 'labels' ? i : prompts.slice(0, i).filter((other) => other === prompts[i]).length,
	);
	const noise = imageNoise(seed + 1, addresses, length);
	stopWhenAborted(signal, 'before enlarging');
	const samples = await withDenoiser(
		denoiser.chain,
		part,
		{
			...run,
			rows: guided ? 2 * images : images,
			elementsPerRow: length,
			onSections: (bytes) => onEvent?.({ kind: 'note', text: sectionsNote(bytes) }),
		},
		(forward) =>
			denoiseSamples({
				sampler,
				samples: noise.start(0).map((v) => v * sampler.initNoiseSigma),
				predict: predictor({
					denoiser,
					forward,
					images,
					conditions,
					guidanceScale: guided ? guidanceScale : undefined,
					layout: plainLayout(length),
				}),
				noise: noise.later,
				signal,
				onStep: (step, steps) => onEvent?.({ kind: 'step', step, steps }),
			}),
	);
	const finished = await pixelCodec.decode({ dtype: 'float32', shape: [images, ...shape], data: samples }, run);
	return { images: finished.data, shape: [images, channels, size.height, size.width] };
}

/** The states of the prompts, and with guidance those of the text that it leads away from, where the model that enlarges takes texts. */
async function textRows(
	{ encoder }: Larger,
	run: RunOptions,
	{ prompts = [], negativePrompt = '', onEvent }: GenerateOptions,
	denoiser: Denoiser,
	guided: boolean,
): Promise<Record<string, Tensor>> {
	if (!encoder) return {};
	const texts = [...new Set([...prompts, ...(guided ? [negativePrompt] : [])])];
	onEvent?.({ kind: 'note', text: `encoding ${texts.length} text${texts.length === 1 ? '' : 's'} for the larger images` });
	// What is cut of a text was said when the base read it.
	const { outputs } = await encodeTexts(encoder, texts, run, () => {});
	const rows = [...prompts, ...(guided ? prompts.map(() => negativePrompt) : [])].map((text) => texts.indexOf(text));
	const named = { encoder_hidden_states: outputs.last_hidden_state, pooled_projections: outputs.text_embeds };
	return Object.fromEntries(
		Object.entries(named).flatMap(([name, value]) =>
			value && Object.hasOwn(denoiser.conditioning, name) ? [[name, gathered(value, rows)] as const] : [],
		),
	);
}
