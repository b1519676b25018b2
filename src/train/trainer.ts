/** @file A training run from config to finished pipeline: data, steps, metrics, samples, checkpoints, resuming. */
import { join } from 'node:path';
import { DiffusionPipeError } from '../core/errors.ts';
import { trainingChain } from '../diffusion/objective.ts';
import { samplerConfig, trainingProcess } from '../diffusion/samplers/index.ts';
import { writeFolderAtomic, writeWhole } from '../io/atomic.ts';
import { writeJson } from '../io/json-file.ts';
import { openJsonLines } from '../io/jsonl.ts';
import { EventWriter } from '../io/tensorboard.ts';
import type { Denoiser } from '../models/index.ts';
import { formatProgram } from '../program/text.ts';
import { bankStore } from './bank-store.ts';
import { type BucketParts, bucketSession, openBucketParts, sizeOfFeeds, sizesOfRun } from './buckets.ts';
import {
	type CheckpointContent,
	partName,
	pruneCheckpoints,
	readCheckpointTensors,
	repairCheckpoints,
	writeCheckpoint,
	writePipelineFolder,
} from './checkpoint.ts';
import type { TrainConfig } from './config.ts';
import { completedConfig } from './controlnet/config.ts';
import { type ControlSamples, controlSamples } from './controlnet/samples.ts';
import { checkLocked, isLocked, readLocked, wholeCuts, wholeParameters } from './controlnet/weights.ts';
import { sizeKey } from './data/buckets.ts';
import type { DataOptions } from './data/index.ts';
import { type Loader, openLoader } from './data/loader.ts';
import { checkData } from './data-check.ts';
import { type Evaluation, openEvaluation } from './evaluation.ts';
import type { TrainEvent, TrainResult } from './events.ts';
import { feedMaker } from './feeds.ts';
import { openFilledRun } from './filled/open.ts';
import { checkFinite, divergedHint } from './finite.ts';
import { closeFrozenParts, type FrozenParts, openFrozenParts, type StepFeeds, stepFeeds } from './frozen-parts.ts';
import { holdoutOf, loadHeldOut } from './held-out.ts';
import { openTrainedModel, readBase, type TrainedModel } from './model.ts';
import type { PlacedParameter } from './parameters.ts';
import { deviceCount } from './plan.ts';
import { type Planned, writePlanned } from './planned.ts';
import { stepRecorder } from './recording.ts';
import { neverReplanned, plainCandidates, profileBefore, type ReplanSetup, replanningSession, tellReplanned } from './replan.ts';
import { replanningSizes } from './replan-sizes.ts';
import { findCheckpoint, orEarlier, refuseChanges } from './resume.ts';
import { prepareRunFolder, type RunFolder, runFolder, sizeFolder } from './run-folder.ts';
import { lockRunFolder } from './run-lock.ts';
import { selfConditioningOf, sweptSteps } from './self-conditioning.ts';
import { hyperOf, openSession, type TrainingSession } from './session.ts';

/** Pictures as PNG, drawn with the weights given. */
export interface DrawnSamples {
	readonly png: Uint8Array;
	readonly width: number;
	readonly height: number;
	readonly channels: 1 | 3 | 4;
}

/** Draws samples during training; given by the caller, since drawing is a layer above training. */
export interface SampleDrawer {
	/** `weights` gives the current (averaged) values of a parameter. */
	draw(weights: (name: string) => Float32Array): Promise<DrawnSamples>;
	close(): Promise<void>;
}

/** What a drawer of samples is made from. */
export interface SampleSetup {
	readonly denoiser: Denoiser;
	readonly scheduler: Readonly<Record<string, unknown>>;
	readonly config: TrainConfig;
	readonly classes: readonly string[] | undefined;
	readonly frozen: FrozenParts;
	/** When a ControlNet is trained: the config of its U-Net, and what it is drawn with. */
	readonly control?: ControlSamples & { readonly unet: Readonly<Record<string, unknown>> };
}

export interface TrainOptions {
	/** A checkpoint's folder, or true: the newest of the run. */
	readonly resume?: string | true;
	readonly allowConfigChange?: boolean;
	/** Removes a run that is in the output folder already. */
	readonly overwrite?: boolean;
	/** When aborted, the step under way is finished and a checkpoint written. */
	readonly signal?: AbortSignal;
	readonly onEvent?: (event: TrainEvent) => void;
	/** Makes the drawer of samples; without it no pictures are made. */
	readonly samples?: (setup: SampleSetup) => Promise<SampleDrawer>;
	/** Milliseconds of a steady clock. Default performance.now. */
	readonly clock?: () => number;
}

/** What the steps work with. */
interface Run {
	readonly config: TrainConfig;
	readonly options: TrainOptions;
	readonly say: (event: TrainEvent) => void;
	readonly folder: RunFolder;
	readonly session: TrainingSession;
	readonly loader: Loader;
	readonly parameters: readonly PlacedParameter[];
	readonly content: (step: number) => CheckpointContent;
	/** Loads and prepares the feeds of a step. */
	readonly feeds: StepFeeds['feeds'];
	/** In a filled run, those of its frozen parts. */
	readonly ahead: StepFeeds['ahead'];
	readonly drawer: SampleDrawer | undefined;
	readonly evaluation: Pick<Evaluation, 'run'> | undefined;
	/** To be called when the session has been laid out anew. */
	readonly rearranged: () => Promise<void>;
	readonly firstStep: number;
	/** The checkpoint gone on from. */
	readonly resumed: string | undefined;
	readonly average: number | undefined;
}

const moments = { exp_avg: 0, exp_avg_sq: 1 } as const;

/**
 * Trains as `config` says, alone in its folder, and returns how it ended. A resumed run gives the losses of a run never stopped: the same bits on the same
 * layout of devices, within rounding on another.
 * @throws DiffusionPipeError: config and input errors before any work, engine errors during it
 */
export async function trainModel(given: TrainConfig, options: TrainOptions = {}): Promise<TrainResult> {
	const config = await completedConfig(given);
	const unlock = await lockRunFolder(config.output_dir);
	try {
		return await trainIn(config, options);
	} finally {
		unlock();
	}
}

/** `trainModel` in a folder that is locked. */
async function trainIn(config: TrainConfig, options: TrainOptions): Promise<TrainResult> {
	const say = options.onEvent ?? (() => {});
	const folder = runFolder(config.output_dir);
	const { type: schedulerClass, ...schedulerOptions } = config.scheduler;
	const scheduler = samplerConfig(schedulerClass, schedulerOptions);
	const { process, predictionType } = trainingProcess(scheduler);
	const average = config.train.ema_decay > 0 ? 2 : undefined;

	await repairCheckpoints(folder.checkpoints);
	const resumed = await findCheckpoint(folder, options.resume);
	if (resumed && !options.allowConfigChange) refuseChanges(resumed.state, config, resumed.path);
	await prepareRunFolder(folder, { resume: resumed !== undefined || options.resume === true, overwrite: options.overwrite ?? false });
	say({ kind: 'note', text: `opening data set ${config.data.type}` });
	const loader = await openLoader(config.data as DataOptions, {
		seed: config.seed,
		batchSize: config.train.batch_size,
		flip: config.train.flip,
		...holdoutOf(config, 'train'),
		onBroken: (name, reason) => say({ kind: 'skipped', name, reason }),
	});
	let session: TrainingSession | undefined;
	let frozen: FrozenParts = { vae: undefined, text: undefined };
	let drawer: SampleDrawer | undefined;
	let model: TrainedModel | undefined;
	let evaluation: Evaluation | undefined;
	let openEvaluated: (() => Evaluation) | undefined;
	let buckets: BucketParts | undefined;
	try {
		model = await openTrainedModel(config);
		const { className, base, locked } = model;
		if (resumed && locked && !options.allowConfigChange) await checkLocked(locked, resumed.path);
		frozen = await openFrozenParts(config, loader.info, say);
		const tokens = frozen.text ? { tokens: frozen.text.states[0] } : {};
		// A ControlNet has no size of its own.
		const [, rows, columns] = frozen.vae?.latents ?? [0, loader.info.height, loader.info.width];
		const { denoiser, lora, control } = model.build({ ...tokens, ...(locked ? { height: rows, width: columns } : {}) });
		checkData(loader.info, denoiser, frozen);
		const chain = trainingChain(denoiser.chain, { ...denoiser, globalBatch: config.train.batch_size });
		say({
			kind: 'note',
			text: `measuring ${chain.layers.length} layers and planning ${deviceCount(config)} device${deviceCount(config) === 1 ? '' : 's'}`,
		});
		const shift = predictionType === 'flow_prediction' && typeof scheduler.shift === 'number' ? scheduler.shift : 1;
		const maker = (given?: ReadonlySet<string>) => feedMaker(config, denoiser, { process, predictionType, shift }, given);
		const store = loader.info.buckets ? bankStore() : undefined;
		const selfConditioning = selfConditioningOf(config, denoiser);
		const start = {
			average: average !== undefined,
			store,
			selfConditioning,
			...(resumed ? { cuts: resumed.state.cuts } : { seed: config.seed }),
		};
		const replanned = (
			opened: TrainingSession,
			planned: Planned | undefined,
			replanning: (planned: Planned, how: Omit<ReplanSetup, 'plan'>) => TrainingSession,
			at: { folder: RunFolder; firstStep: number; size?: string | undefined } = { folder, firstStep: resumed?.state.step ?? 0 },
		) => {
			const { replan_after: after, replan_gain: least } = config.parallel;
			if (after === 0) return opened;
			const ofSize = at.size ? ` for images of ${at.size}` : '';
			const notAgain = (why: string) => say({ kind: 'note', text: `nothing is planned again${ofSize}: ${why}` });
			if (!planned) {
				notAgain('the layers of this run were not measured');
				return opened;
			}
			const never = neverReplanned(after, at.firstStep, config.train.max_steps);
			if (never) {
				notAgain(never);
				return opened;
			}
			return replanning(planned, {
				after,
				least,
				maxSteps: config.train.max_steps,
				firstStep: at.firstStep,
				moments: start.average ? 3 : 2,
				onUnmeasured: () =>
					notAgain(
						`no step of this start was measured before step ${after} but the first, which does not count; a later parallel.replan_after has more`,
					),
				onReplanned: (result, { plan }) => tellReplanned(at.folder, result, plan, say, at.size),
			});
		};
		if (store) {
			const byDenoiser = (sized: Denoiser, given?: ReadonlySet<string>) =>
				feedMaker(config, sized, { process, predictionType, shift }, given);
			buckets = await openBucketParts({ config, data: loader.info, model, options: tokens, denoiser, maker: byDenoiser, say });
		}
		let stepping: StepFeeds;
		if (config.frozen.cache === 'fill' && (frozen.vae || frozen.text)) {
			const run = await openFilledRun({
				...{ chain, control, locked, config, loader, maker, folder, session: start, bySize: buckets?.bySize, say },
				firstStep: resumed?.state.step ?? 0,
				replanned: (opened, plan, at) =>
					replanned(opened, opened.filled, (planned, how) => replanningSession(opened, planned, { ...how, plan }), at),
			});
			session = run.session;
			stepping = run.feeds;
		} else {
			const profile = resumed && (await profileBefore(folder, config, chain));
			const opened = await openSession(chain, config, { ...start, ...(profile ? { profile } : {}) });
			session = opened;
			const { planned } = opened.plan;
			if (buckets) {
				const parts = buckets;
				const shared = { config, average: start.average, selfConditioning, say };
				const sized = bucketSession(session, parts, { ...shared, store });
				const open = async (cuts: readonly number[]) => {
					const own = bankStore();
					return bucketSession(await openSession(chain, config, { ...shared, store: own, cuts }), parts, { ...shared, store: own });
				};
				const sizes = sizesOfRun(chain, parts, loader.info, config.train.batch_size);
				const again = { config, selfConditioning, sizes, sizeOf: sizeOfFeeds, open };
				session = replanned(sized, planned, (found, how) => replanningSizes(sized, found, { ...how, ...again }));
			} else {
				const candidates = plainCandidates(chain, config, start);
				session = replanned(opened, planned, (found, how) => replanningSession(opened, found, { ...how, plan: candidates }));
			}
			const bySize = [...(buckets?.bySize ?? [])].map(([size, parts]) => [size, { vae: parts.vae, make: parts.maker() }] as const);
			stepping = stepFeeds(config, loader, frozen, maker(), say, new Map(bySize));
		}
		const { plan, parameters: placed } = session;
		const parameters = locked ? placed.filter((p) => !isLocked(p)) : placed;
		if (locked) await readLocked(placed, locked);
		const whole = config.eval.every_steps > 0 || config.sample.enabled;
		const drawnFrom = locked && whole ? await wholeParameters(placed, denoiser.chain, locked) : placed;
		const cuts = () => (control && config.frozen.cache === 'fill' ? wholeCuts(session!.plan.cuts, control) : session!.plan.cuts);
		if (plan.planned) await writePlanned(folder, plan.planned);
		if (config.parallel.activation_checkpointing === 'auto') say({ kind: 'note', text: `activation checkpointing: ${plan.recompute}` });
		const text = formatProgram(plan.compiled.program);
		const size = loader.info.buckets && sizeKey(loader.info);
		say({ kind: 'plan', devices: plan.compiled.program.devices.length, stages: plan.stages, text, ...(size ? { size } : {}) });
		await writeWhole(folder.programs, text);
		await writeJson(folder.config, config);
		if (resumed) {
			const reading = readCheckpointTensors(resumed.path, partName(className), parameters, moments, average, lora !== undefined);
			// What does not fit a changed config is not damaged.
			await (options.allowConfigChange ? reading : orEarlier(folder, resumed.path, reading));
			say({ kind: 'resumed', step: resumed.state.step, path: resumed.path });
		} else if (base) {
			say({ kind: 'note', text: `reading ${base.folder}` });
			await readBase(parameters, base, { lora: lora !== undefined, average });
		}
		if (config.eval.every_steps > 0) {
			const examples = await loadHeldOut(config, denoiser, frozen);
			const role = config.eval.ema ? { moment: average! } : 'parameter';
			const noising = { process, predictionType, shift };
			openEvaluated = () => openEvaluation({ config, denoiser, process: noising, parameters: drawnFrom, cuts: cuts(), examples, role });
			evaluation = openEvaluated();
		}
		const drawnControl = async () => ({ unet: locked!.config, ...(await controlSamples(config, loader, folder.samples)) });
		drawer = config.sample.enabled
			? await options.samples?.({
					denoiser,
					scheduler,
					config,
					classes: loader.info.classes,
					frozen,
					...(locked ? { control: await drawnControl() } : {}),
				})
			: undefined;
		return await runSteps({
			config,
			options,
			say,
			folder,
			session,
			loader,
			parameters: drawnFrom,
			feeds: stepping.feeds,
			ahead: stepping.ahead,
			drawer,
			evaluation: evaluation && { run: () => evaluation!.run() },
			rearranged: async () => {
				await evaluation?.close();
				evaluation = openEvaluated?.();
			},
			average,
			firstStep: resumed?.state.step ?? 0,
			resumed: resumed?.path,
			content: (step) => ({
				state: { version: 1, step, cuts: cuts(), config: config as unknown as Record<string, unknown> },
				model: { className, config: denoiser.config },
				scheduler,
				classes: loader.info.classes,
				frozen,
				locked,
				sample: { steps: config.sample.steps, guidanceScale: config.sample.guidance_scale },
				parameters,
				moments,
				average,
				lora: lora && base && { ...lora, base: base.folder },
			}),
		});
	} finally {
		await drawer?.close();
		await evaluation?.close();
		await session?.close();
		await buckets?.close();
		await closeFrozenParts(frozen);
		await model?.close();
		await loader.close();
	}
}

async function runSteps(run: Run): Promise<TrainResult> {
	const { config, options, say, folder, session, loader, firstStep } = run;
	const { train, checkpoint, sample, log } = config;
	const clock = options.clock ?? (() => performance.now());
	const began = clock();
	// A run that goes on from its start measures held-out losses of step 0 again.
	const resumeFrom = firstStep > 0 ? firstStep + 1 : 0;
	const metrics = await openJsonLines(folder.metrics, { resumeFrom });
	const events = log.tensorboard ? new EventWriter(folder.root, options.resume === undefined ? {} : { resumeFrom }) : undefined;
	const swept = sweptSteps(config);
	const record = stepRecorder(folder, config.parallel.threads_per_device, say);
	const samples: string[] = [];
	const recent: number[] = [];
	let step = firstStep;
	let loss = Number.NaN;
	let saved = run.resumed;
	let savedStep = firstStep > 0 ? firstStep : -1;
	const save = async () => {
		if (savedStep === step) return;
		const content = run.content(step);
		checkFinite(content, { rate: 'optimizer.lr', good: saved });
		saved = await writeCheckpoint(folder.checkpoints, content);
		savedStep = step;
		await pruneCheckpoints(folder.checkpoints, checkpoint.keep_last, step);
		say({ kind: 'checkpoint', step, path: saved });
	};
	const evaluate = async () => {
		if (!run.evaluation) return;
		const start = clock();
		const { loss: mean, quantiles, samples: count } = await run.evaluation.run();
		const ms = clock() - start;
		const each = (name: (quantile: number) => string) => Object.fromEntries(quantiles.map((q) => [name(q.quantile), q.loss]));
		metrics.append({ step, eval_loss: mean, eval_loss_quantiles: each(String), eval_ms: ms });
		events?.scalars(step, { 'eval/loss': mean, ...each((q) => `eval/loss_quantile_${q.toFixed(2)}`) });
		say({ kind: 'eval', step, loss: mean, quantiles, samples: count, ms });
	};
	const draw = async () => {
		if (!run.drawer) return;
		say({ kind: 'note', text: `drawing samples at step ${step}` });
		const byName = new Map(run.parameters.map((p) => [p.name, p]));
		const role = run.average === undefined ? 'parameter' : { moment: run.average };
		const picture = await run.drawer.draw((name) => byName.get(name)!.views(role)[0]!);
		const path = join(folder.samples, `step-${String(step).padStart(8, '0')}.png`);
		await writeWhole(path, picture.png);
		events?.image('samples', picture, step);
		samples.push(path);
		say({ kind: 'sample', step, path });
	};
	try {
		if (firstStep === 0 && config.eval.before_first_step) await evaluate();
		const nextFeeds = async (s: number) => (s < train.max_steps ? run.feeds(s) : undefined);
		let prepared = nextFeeds(step);
		// A failed load must not be an unhandled rejection while a step runs; it is thrown when its turn comes.
		prepared.catch(() => {});
		if (run.ahead && step < train.max_steps) await session.begin?.(await run.ahead(step), step > 0 && swept(step - 1));
		while (step < train.max_steps && !options.signal?.aborted) {
			if (await session.rearrange?.()) await run.rearranged();
			const feeds = (await prepared)!;
			const ahead = step + 1 < train.max_steps ? await run.ahead?.(step + 1) : undefined;
			const start = clock();
			const { lr, hyper } = hyperOf(config, step);
			const trace = log.trace_every_steps > 0 && (step + 1) % log.trace_every_steps === 0;
			const running = session.step(feeds, hyper, trace, ahead, swept(step));
			prepared = nextFeeds(step + 1);
			prepared.catch(() => {});
			const { loss: stepLoss, gradNorm, traced } = await running;
			step++;
			loss = stepLoss;
			if (!Number.isFinite(loss) || !Number.isFinite(gradNorm)) {
				throw new DiffusionPipeError('engine', 'the loss is no longer a finite number', {
					place: `step ${step}`,
					found: `loss ${loss}, gradient norm ${gradNorm}`,
					hint: divergedHint({ rate: 'optimizer.lr', good: saved }),
				});
			}
			const stepMs = clock() - start;
			recent.push(stepMs);
			if (recent.length > 50) recent.shift();
			const mean = recent.reduce((a, b) => a + b, 0) / recent.length;
			const imagesPerSecond = (train.batch_size / mean) * 1000;
			if (step % log.every_steps === 0 || step === train.max_steps) {
				metrics.append({ step, loss, lr, grad_norm: gradNorm, step_ms: stepMs, images_per_s: imagesPerSecond });
				events?.scalars(step, {
					'train/loss': loss,
					'train/lr': lr,
					'train/grad_norm': gradNorm,
					'perf/step_ms': stepMs,
					'perf/images_per_s': imagesPerSecond,
				});
			}
			if (trace && traced) {
				const size = session.sizeOf?.(traced.compiled);
				const own = traced.compiled === session.plan.compiled ? folder : size && sizeFolder(folder, size);
				await record({ step, stepMs, ...traced }, own || undefined);
			}
			say({
				kind: 'step',
				step,
				maxSteps: train.max_steps,
				loss,
				lr,
				gradNorm,
				stepMs,
				imagesPerSecond,
				secondsLeft: ((train.max_steps - step) * mean) / 1000,
			});
			// Before saving: a run resumed from here has the measurement already.
			if (run.evaluation && (step % config.eval.every_steps === 0 || step === train.max_steps)) await evaluate();
			if (checkpoint.every_steps > 0 && step % checkpoint.every_steps === 0) await save();
			if (sample.every_steps > 0 && step % sample.every_steps === 0 && step < train.max_steps) await draw();
		}
		await save();
		const finished = step >= train.max_steps;
		let pipeline: string | undefined;
		if (finished) {
			await draw();
			const role = run.average === undefined ? 'parameter' : { moment: run.average };
			await writeFolderAtomic(folder.pipeline, (dir) => writePipelineFolder(dir, run.content(step), role), { replace: true });
			pipeline = folder.pipeline;
		}
		const seconds = (clock() - began) / 1000;
		const result: TrainResult = {
			step,
			finished,
			loss,
			seconds,
			imagesPerSecond: ((step - firstStep) * train.batch_size) / seconds,
			skippedFiles: loader.skipped,
			checkpoint: saved ?? '',
			pipeline,
			samples,
		};
		say({ kind: 'done', result });
		return result;
	} finally {
		metrics.close();
		events?.close();
	}
}
