/** @file Pipelines from class labels (or nothing) to images: DiT (Peebles and Xie, 2212.09748), the U-Nets of DDPM, and what is trained here on labels. */
import { DiffusionPipeError } from '../../core/errors.ts';
import { sizeOf } from '../../core/tensor.ts';
import { createDenoiser } from '../../models/index.ts';
import { labelRows } from '../denoise.ts';
import { denoiseSamples, imageNoise, plainLayout, predictor, stopWhenAborted } from '../denoising.ts';
import { classNames } from '../folder.ts';
import { checkGiven } from '../given.ts';
import { imageSize } from '../image-size.ts';
import { sectionsNote, withDenoiser } from '../in-sections.ts';
import { withLora } from '../lora.ts';
import { checkWeights, denoiserName, type ModelPart, openPart } from '../parts.ts';
import type { Generated, GenerateOptions, OpenOptions, Pipeline, PipelineFolder } from '../pipeline.ts';
import { pipelineSampler } from '../schedule.ts';
import { type ImageCodec, pixelCodec, vaeCodec } from '../vae.ts';

/** LDMPipeline calls its autoencoder otherwise. */
const autoencoders = ['vae', 'vqvae'];
const published = { steps: 50, guidanceScale: 2.5 };

/** DiTPipeline, DDPMPipeline, DDIMPipeline, LDMPipeline. Guidance is on at every scale but 1, below 1 away from the label. */
export async function classConditional(place: PipelineFolder, options: OpenOptions): Promise<Pipeline> {
	const { folder, index } = place;
	if (options.controlNet) {
		throw new DiffusionPipeError('usage', 'takes no ControlNet', { place: folder, expected: 'a pipeline with a UNet2DConditionModel' });
	}
	const own = await openPart(folder, index, denoiserName(folder, index));
	let vae: ModelPart | undefined;
	const close = async () => {
		await own.weights.close();
		await vae?.weights.close();
	};
	try {
		const main = await withLora(own, folder, options);
		const autoencoder = autoencoders.find((name) => index.parts[name]);
		vae = autoencoder === undefined ? undefined : await openPart(folder, index, autoencoder);
		const codec = vae ? vaeCodec(vae) : pixelCodec;
		const { labels, conditioning } = createDenoiser(main.className, main.config, main.place);
		const [untold] = Object.keys(conditioning);
		if (untold !== undefined) {
			throw new DiffusionPipeError('config', 'the model is told more than labels', {
				place: main.place,
				expected: 'a model of labels, or of nothing',
				found: `an input ${untold}`,
			});
		}
		const classes = classNames(index.options.id2label);
		const labelCount = labels && Math.min(classes?.length ?? labels.none, labels.none);
		const generate = (given: GenerateOptions) => draw(place, options, main, codec, labelCount, given);
		return { folder, className: index.className, takes: 'labels', classes, labelCount, sampling: place.sampling, generate, close };
	} catch (error) {
		await close();
		throw error;
	}
}

async function draw(
	{ folder, scheduler, schedulerFile, sampling }: PipelineFolder,
	run: OpenOptions,
	main: ModelPart,
	codec: ImageCodec,
	labelCount: number | undefined,
	given: GenerateOptions,
): Promise<Generated> {
	checkGiven(given, 'labels', folder);
	const own = { ...published, ...sampling };
	const { labels = [0], steps = own.steps, guidanceScale = own.guidanceScale, seed = 0, signal, onEvent } = given;
	const wrong = labels.find((label) => !Number.isSafeInteger(label) || label < 0 || label >= (labelCount ?? Number.POSITIVE_INFINITY));
	if (wrong !== undefined || labels.length === 0) {
		throw new DiffusionPipeError('usage', wrong === undefined ? 'there are no labels' : 'no such class', {
			place: 'labels',
			expected: labelCount === undefined ? 'whole numbers, one for each image' : `whole numbers below ${labelCount}`,
			found: String(wrong ?? 'none'),
		});
	}
	const config = main.config as Readonly<Record<string, unknown>>;
	const patch = typeof config.patch_size === 'number' ? config.patch_size : 1;
	const size = imageSize(given, config.sample_size, codec.factor, codec.factor * patch);
	const [rows, columns] = [size.height / codec.factor, size.width / codec.factor];
	const denoiser = createDenoiser(main.className, main.config, main.place, { height: rows, width: columns });
	const shape = denoiser.chain.inputs[denoiser.sample]!.shape;
	const images = labels.length;
	const sampler = pipelineSampler(scheduler, schedulerFile, {
		steps,
		images,
		className: given.scheduler,
		imageTokens: (rows * columns) / patch ** 2,
	});
	checkWeights(denoiser.chain, main);
	codec.check(size, false);
	const length = sizeOf(shape);
	const noise = imageNoise(
		seed,
		labels.map((_, i) => i),
		length,
	);
	const guided = denoiser.labels !== undefined && guidanceScale !== 1;
	stopWhenAborted(signal, 'before denoising');
	const samples = await withDenoiser(
		denoiser.chain,
		main,
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
					conditions: labelRows(denoiser, labels, guided),
					guidanceScale: guided ? guidanceScale : undefined,
					layout: plainLayout(length),
				}),
				noise: noise.later,
				signal,
				onStep: (step, of) => onEvent?.({ kind: 'step', step, steps: of }),
			}),
	);
	stopWhenAborted(signal, 'before decoding');
	const decoded = await codec.decode({ dtype: 'float32', shape: [images, ...shape], data: samples }, run);
	return { images: decoded.data, shape: decoded.shape as readonly [number, number, number, number] };
}
