/**
 * @file Training of a cascade (Ho et al., arXiv 2106.15282): a base model that draws small images, and one that enlarges them, told the small image by
 * channels beside its sample. Both are trained at the same time, as one bidirectional pipeline.
 */
import { join } from 'node:path';
import { DiffusionPipeError } from '../core/errors.ts';
import { randomStream } from '../core/random.ts';
import type { Tensor } from '../core/tensor.ts';
import { trainingChain } from '../diffusion/objective.ts';
import { samplerConfig, trainingProcess } from '../diffusion/samplers/index.ts';
import { writeFolderAtomic, writeWhole } from '../io/atomic.ts';
import { writeJson } from '../io/json-file.ts';
import { openJsonLines } from '../io/jsonl.ts';
import { concatenatedKey, conditionedConfig } from '../models/concatenated.ts';
import { createDenoiser, type Denoiser } from '../models/index.ts';
import type { Chain } from '../nn/chain.ts';
import { formatProgram } from '../program/text.ts';
import { type BackboneName, backboneNames, type CascadeConfig } from './cascade-config.ts';
import { openCascadeSession, type PerBackbone, perBackbone } from './cascade-session.ts';
import { type CheckpointContent, checkpointName, writePipelineFolder } from './checkpoint.ts';
import type { DataOptions } from './data/index.ts';
import { openLoader } from './data/loader.ts';
import type { Batch, DataSetInfo } from './data/types.ts';
import type { TrainEvent } from './events.ts';
import { feedMaker } from './feeds.ts';
import { downsampled, upsampled } from './resize.ts';
import { prepareRunFolder, runFolder } from './run-folder.ts';
import { hyperOf } from './session.ts';
import type { DrawnSamples } from './trainer.ts';

/** The conditioning input of the model that enlarges: the small image, enlarged, [channels, height, width]. */
export const lowResolution = 'low_resolution';

/** One of the two models as it is trained and drawn with. */
export interface CascadePart {
	readonly denoiser: Denoiser;
	readonly className: string;
	/** Complete scheduler config. */
	readonly scheduler: Readonly<Record<string, unknown>>;
	/** The model with its objective. */
	readonly chain: Chain;
	readonly config: CascadeConfig[BackboneName];
}

/** Both models, and what a step feeds them. */
export interface Cascade {
	readonly parts: PerBackbone<CascadePart>;
	/** Pixels of a side of the large image over those of the small one. */
	readonly factor: number;
	/** The feeds of both chains, each a function of its seed, the step and the sample. */
	readonly feeds: (batch: Batch) => PerBackbone<Record<string, Tensor>>;
}

/** Draws with both models; given by the caller, since drawing is a layer above training. */
export type CascadeDrawer = (
	cascade: Cascade,
	/** Current (averaged) values of a parameter. */
	weights: PerBackbone<(name: string) => Float32Array>,
	config: CascadeConfig,
) => Promise<DrawnSamples>;

/** A step of both. */
export interface CascadeStep {
	readonly kind: 'step';
	/** Steps done, from 1. */
	readonly step: number;
	readonly maxSteps: number;
	readonly losses: PerBackbone<number>;
	readonly gradNorms: PerBackbone<number>;
	readonly stepMs: number;
}

export type CascadeEvent = Extract<TrainEvent, { readonly kind: 'note' | 'plan' | 'sample' | 'skipped' }> | CascadeStep;

export interface CascadeOptions {
	/** Removes a run that is in the output folder already. */
	readonly overwrite?: boolean;
	/** When aborted, the step under way is finished, and the weights are written as they are then. */
	readonly signal?: AbortSignal;
	readonly onEvent?: (event: CascadeEvent) => void;
	/** Draws the samples; without it no pictures are made. */
	readonly samples?: CascadeDrawer;
	/** Milliseconds of a steady clock. Default performance.now. */
	readonly clock?: () => number;
}

/** How a cascade's training ended. */
export interface CascadeResult {
	/** Steps done. */
	readonly step: number;
	/** False when the run was asked to stop before its last step. */
	readonly finished: boolean;
	/** Of the last step. */
	readonly losses: PerBackbone<number>;
	readonly seconds: number;
	readonly skippedFiles: number;
	/** A pipeline of the base with averaged weights, and in its folder `super_resolution` the other. */
	readonly pipeline: string;
	readonly samples: readonly string[];
}

/**
 * Builds both models of a cascade for images of `info`. Throws a config error when the sizes or labels do not fit: the base is as large as its `sample_size` says, the
 * other as the data, a whole number of times larger.
 */
export function createCascade(config: CascadeConfig, info: DataSetInfo): Cascade {
	const sides = perBackbone((name) => {
		const { type: className, ...raw } = config[name].model;
		const place = name === 'base' ? 'model' : `${name}.model`;
		const plain = createDenoiser(className, raw, place);
		// What is drawn is drawn at its own size; only the model that enlarges sees another image.
		const isWhole = name === 'base' || raw[concatenatedKey] !== undefined;
		const denoiser = isWhole ? plain : createDenoiser(className, conditionedConfig(plain, lowResolution), place);
		const { type: schedulerClass, ...options } = config[name].scheduler;
		const scheduler = samplerConfig(schedulerClass, options);
		const chain = trainingChain(denoiser.chain, { ...denoiser, globalBatch: config[name].train.batch_size });
		const part: CascadePart = { denoiser, className, scheduler, chain: { ...chain, name }, config: config[name] };
		const { process, predictionType } = trainingProcess(scheduler);
		const shift = predictionType === 'flow_prediction' && typeof scheduler.shift === 'number' ? scheduler.shift : 1;
		return { part, make: feedMaker(config[name], denoiser, { process, predictionType, shift }) };
	});
	const shapeOf = (name: BackboneName) => {
		const { chain, sample } = sides[name].part.denoiser;
		return chain.inputs[sample]!.shape;
	};
	const want = [info.channels, info.height, info.width];
	const small = shapeOf('base');
	const [channels, rows, columns] = small as [number, number, number];
	const factor = info.height / rows;
	if (shapeOf('super_resolution').join() !== want.join()) {
		misfit('super_resolution.model', want, shapeOf('super_resolution'));
	}
	if (small.length !== 3 || channels !== info.channels || !Number.isInteger(factor) || factor < 2 || columns * factor !== info.width) {
		misfit('model', [info.channels, `${info.height} / n`, `${info.width} / n`], small);
	}
	for (const name of backboneNames) {
		const known = sides[name].part.denoiser.labels?.none;
		if (known === undefined || !info.classes || info.classes.length <= known) continue;
		throw new DiffusionPipeError('config', 'the data has more classes than the model', {
			place: name === 'base' ? 'model' : `${name}.model`,
			expected: `labels for ${info.classes.length} classes and one more, which means none`,
			found: `${known}`,
		});
	}
	const noise = randomStream(config.super_resolution.seed, 'train.condition_noise');
	const size = channels * rows * columns;
	const feeds = ({ step, images, labels }: Batch) => {
		const low = downsampled(images, info.height, info.width, factor);
		const noised = noise.normals(new Float32Array(low.length), step);
		for (let k = 0; k < low.length; k++) {
			const deviation = config.condition_noise * noise.uniform(step, Math.floor(k / size));
			noised[k] = low[k]! + deviation * noised[k]!;
		}
		const conditioning = { [lowResolution]: upsampled(noised, rows, columns, factor) };
		return {
			base: sides.base.make({ step, samples: low, labels, conditioning: {} }),
			super_resolution: sides.super_resolution.make({ step, samples: images, labels, conditioning }),
		};
	};
	return { parts: perBackbone((name) => sides[name].part), factor, feeds };
}

function misfit(place: string, expected: readonly (number | string)[], found: readonly number[]): never {
	throw new DiffusionPipeError('config', 'the images do not fit the model', {
		place,
		expected: `[${expected.join(', ')}] (in_channels, sample_size)`,
		found: `[${found.join(', ')}]`,
	});
}

const moments = { exp_avg: 0, exp_avg_sq: 1 } as const;

/**
 * Trains both models of a cascade as `config` says, each with a loss and an optimiser of its own, on `parallel.pipeline_stages` devices a pipeline. A step gives
 * the losses that each alone has on one device, within rounding. Weights are written at the end and at `checkpoint.every_steps`; a run cannot be resumed.
 * @throws DiffusionPipeError: config and input errors before any work, engine errors during it
 */
export async function trainCascade(config: CascadeConfig, options: CascadeOptions = {}): Promise<CascadeResult> {
	const { overwrite = false, signal, onEvent: say = () => {}, samples: draw, clock = () => performance.now() } = options;
	const { base } = config;
	const { max_steps: maxSteps, batch_size: batchSize, flip, ema_decay } = base.train;
	const average = ema_decay > 0;
	const folder = runFolder(base.output_dir);
	await prepareRunFolder(folder, { resume: false, overwrite });
	say({ kind: 'note', text: `opening data set ${base.data.type}` });
	const onBroken = (name: string, reason: string) => say({ kind: 'skipped', name, reason });
	const loader = await openLoader(base.data as DataOptions, { seed: base.seed, batchSize, flip, onBroken });
	try {
		const cascade = createCascade(config, loader.info);
		const chains = perBackbone((name) => cascade.parts[name].chain);
		const seeds = perBackbone((name) => config[name].seed);
		const session = await openCascadeSession(chains, config, { average, seeds });
		const metrics = await openJsonLines(folder.metrics, {});
		try {
			const text = formatProgram(session.compiled.program);
			say({ kind: 'plan', devices: session.compiled.program.devices.length, stages: session.stages, text });
			await writeWhole(folder.programs, text);
			await writeJson(folder.config, config);
			const role = average ? ({ moment: 2 } as const) : 'parameter';
			const content = (name: BackboneName, step: number): CheckpointContent => {
				const { denoiser, className, scheduler } = cascade.parts[name];
				return {
					state: { version: 1, step, cuts: session.cuts[name], config: config as unknown as Record<string, unknown> },
					model: { className, config: denoiser.config },
					scheduler,
					classes: loader.info.classes,
					frozen: { vae: undefined, text: undefined },
					parameters: session.parameters[name],
					moments,
					average: average ? 2 : undefined,
					lora: undefined,
				};
			};
			const write = (path: string, step: number) =>
				writeFolderAtomic(
					path,
					async (dir) => {
						await writePipelineFolder(dir, content('base', step), role);
						await writePipelineFolder(join(dir, 'super_resolution'), content('super_resolution', step), role);
					},
					{ replace: true },
				);
			const drawn: string[] = [];
			const drawAt = async (step: number) => {
				if (!draw || !base.sample.enabled) return;
				say({ kind: 'note', text: `drawing samples at step ${step}` });
				const weights = perBackbone((name) => {
					const byName = new Map(session.parameters[name].map((p) => [p.name, p]));
					return (parameter: string) => byName.get(parameter)!.views(role)[0]!;
				});
				const path = join(folder.samples, `${checkpointName(step)}.png`);
				await writeWhole(path, (await draw(cascade, weights, config)).png);
				drawn.push(path);
				say({ kind: 'sample', step, path });
			};
			const began = clock();
			const prepare = async (step: number) => (step < maxSteps ? cascade.feeds(await loader.batchAt(step)) : undefined);
			let prepared = prepare(0);
			// A failed load is thrown when its turn comes; until then it must not count as unhandled.
			prepared.catch(() => {});
			let losses = perBackbone(() => Number.NaN);
			let step = 0;
			while (step < maxSteps && !signal?.aborted) {
				const feeds = (await prepared)!;
				const start = clock();
				const hypers = perBackbone((name) => hyperOf(config[name], step));
				const running = session.step(
					feeds,
					perBackbone((name) => hypers[name].hyper),
				);
				prepared = prepare(step + 1);
				prepared.catch(() => {});
				const result = await running;
				step++;
				for (const name of backboneNames) {
					if (Number.isFinite(result[name].loss) && Number.isFinite(result[name].gradNorm)) continue;
					throw new DiffusionPipeError('engine', 'the loss is no longer a finite number', {
						place: `${name}, step ${step}`,
						found: `loss ${result[name].loss}, gradient norm ${result[name].gradNorm}`,
						hint: `lower ${name === 'base' ? '' : `${name}.`}optimizer.lr`,
					});
				}
				const stepMs = clock() - start;
				losses = perBackbone((name) => result[name].loss);
				const gradNorms = perBackbone((name) => result[name].gradNorm);
				const each = backboneNames.map((name) => [name, { loss: losses[name], grad_norm: gradNorms[name], lr: hypers[name].lr }]);
				if (step % base.log.every_steps === 0 || step === maxSteps)
					metrics.append({ step, ...Object.fromEntries(each), step_ms: stepMs, images_per_s: (1000 * batchSize) / stepMs });
				say({ kind: 'step', step, maxSteps, losses, gradNorms, stepMs });
				const { every_steps: every } = base.checkpoint;
				if (every > 0 && step % every === 0 && step < maxSteps) await write(folder.pipeline, step);
				if (base.sample.every_steps > 0 && step % base.sample.every_steps === 0 && step < maxSteps) await drawAt(step);
			}
			await write(folder.pipeline, step);
			await drawAt(step);
			const { skipped: skippedFiles } = loader;
			const seconds = (clock() - began) / 1000;
			return { step, finished: step >= maxSteps, losses, seconds, skippedFiles, pipeline: folder.pipeline, samples: drawn };
		} finally {
			metrics.close();
			await session.close();
		}
	} finally {
		await loader.close();
	}
}
