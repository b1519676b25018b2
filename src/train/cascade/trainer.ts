/**
 * @file Training of a cascade (Ho et al., arXiv 2106.15282): a base model that draws small images, and one that enlarges them, told the small image by
 * channels beside its sample. Both are trained at the same time, as one bidirectional pipeline.
 */
import { join } from 'node:path';
import { DiffusionPipeError } from '../../core/errors.ts';
import { writeWhole } from '../../io/atomic.ts';
import { writeJson } from '../../io/json-file.ts';
import { openJsonLines } from '../../io/jsonl.ts';
import { EventWriter } from '../../io/tensorboard.ts';
import { formatProgram } from '../../program/text.ts';
import { checkpointName } from '../checkpoint.ts';
import type { DataOptions } from '../data/index.ts';
import { type Loader, openLoader } from '../data/loader.ts';
import type { TrainEvent } from '../events.ts';
import { frozenFeeds } from '../filled/parts.ts';
import { divergedHint } from '../finite.ts';
import { openTextEncoder } from '../frozen-parts.ts';
import { holdoutOf } from '../held-out.ts';
import { writePlanned } from '../planned.ts';
import { stepRecorder } from '../recording.ts';
import { prepareRunFolder, type RunFolder, runFolder } from '../run-folder.ts';
import { lockRunFolder } from '../run-lock.ts';
import { hyperOf } from '../session.ts';
import { backboneNames, type CascadeConfig, type PerBackbone, perBackbone } from './config.ts';
import { type CascadeEvaluation, openCascadeEvaluation } from './evaluation.ts';
import type { CascadeEvent, CascadeOptions, CascadeResult } from './events.ts';
import { type CascadeStepFeeds, filledFeeds, inlineFeeds } from './feeds.ts';
import { createCascade } from './models.ts';
import { cascadeRunParts } from './parts.ts';
import { type CascadePlan, planCascade } from './plan.ts';
import { type CascadeContent, finishCascade, rateOf, readCascade, resumedCascade, saveCascade } from './saves.ts';
import { type CascadeSession, type CascadeStepped, openCascadeSession } from './session.ts';

/** What the steps work with. */
interface Run {
	readonly config: CascadeConfig;
	readonly options: CascadeOptions;
	readonly say: (event: CascadeEvent) => void;
	readonly folder: RunFolder;
	readonly loader: Loader;
	readonly session: CascadeSession;
	readonly stepping: CascadeStepFeeds;
	readonly content: CascadeContent;
	readonly evaluation: CascadeEvaluation | undefined;
	readonly firstStep: number;
	/** The base's checkpoint gone on from. */
	readonly resumed: string | undefined;
}

/**
 * Trains both models of a cascade as `config` says, each with a loss and an optimiser of its own, on `parallel.pipeline_stages` devices a pipeline. A step gives
 * the losses that each alone has on one device, within rounding, and a resumed run those of a run never stopped, to the bit on the same devices.
 * @throws DiffusionPipeError: config and input errors before any work, engine errors during it
 */
export async function trainCascade(config: CascadeConfig, options: CascadeOptions = {}): Promise<CascadeResult> {
	const unlock = await lockRunFolder(config.base.output_dir);
	try {
		return await trainIn(config, options);
	} finally {
		unlock();
	}
}

/** `trainCascade` in a folder that is locked. */
async function trainIn(config: CascadeConfig, options: CascadeOptions): Promise<CascadeResult> {
	const { resume = false, overwrite = false, allowConfigChange = false, onEvent: say = () => {} } = options;
	const { base } = config;
	const { batch_size: batchSize, flip, ema_decay } = base.train;
	const average = ema_decay > 0 ? 2 : undefined;
	const folder = runFolder(base.output_dir);
	const from = typeof resume === 'string' ? resume : undefined;
	const resumed = resume === false ? undefined : await resumedCascade(folder, config, { from, allowConfigChange });
	await prepareRunFolder(folder, { resume: resume !== false, overwrite });
	say({ kind: 'note', text: `opening data set ${base.data.type}` });
	const onBroken = (name: string, reason: string) => say({ kind: 'skipped', name, reason });
	const loader = await openLoader(base.data as DataOptions, { seed: base.seed, batchSize, flip, ...holdoutOf(base, 'train'), onBroken });
	const open: { close(): Promise<void> }[] = [loader];
	try {
		const text = await openTextEncoder(base, notesTo(say));
		if (text) open.push(text);
		const isFilled = text !== undefined && base.frozen.cache === 'fill';
		const cascade = createCascade(config, loader.info, text, isFilled ? 'given' : 'fed');
		const parts = isFilled ? await cascadeRunParts(config, cascade) : undefined;
		let session: CascadeSession;
		let stepping: CascadeStepFeeds = inlineFeeds(base, loader, cascade, text);
		try {
			const plan = await planCascade(
				perBackbone((name) => cascade.parts[name].chain),
				config,
				{
					moments: average === undefined ? 2 : 3,
					parts,
					known: resumed,
					onMeasure: (layers) =>
						say({ kind: 'note', text: `measuring ${layers} layers${parts ? ', frozen ones among them,' : ''} and planning` }),
				},
			);
			if (plan.planned) {
				say({ kind: 'note', text: predictionText(plan.planned, parts !== undefined) });
				await writePlanned(folder, plan.planned);
			}
			if (base.parallel.activation_checkpointing === 'auto') say({ kind: 'note', text: `activation checkpointing: ${plan.recompute}` });
			const seeds = perBackbone((name) => config[name].seed);
			session = await openCascadeSession(plan, base, { average: average !== undefined, parts, ...(resumed ? {} : { seeds }) });
			open.push(session);
			if (parts && text) stepping = filledFeeds(base, loader, cascade, await frozenFeeds(parts, text.tokenizerFolder, base.seed));
		} finally {
			await parts?.close();
		}
		const { compiled, stages } = session.plan;
		const programs = formatProgram(compiled.program);
		say({ kind: 'plan', devices: compiled.program.devices.length, stages, text: programs });
		await writeWhole(folder.programs, programs);
		await writeJson(folder.config, config);
		const content = { config, models: cascade, session, text, classes: loader.info.classes, average };
		if (resumed) {
			await readCascade(resumed, content);
			say({ kind: 'resumed', step: resumed.step, path: resumed.paths.base });
		}
		const evaluation = base.eval.every_steps > 0 ? await openCascadeEvaluation(cascade, session, text, average) : undefined;
		if (evaluation) open.push(evaluation);
		return await runSteps({
			...{ config, options, say, folder, loader, session, stepping, content, evaluation },
			firstStep: resumed?.step ?? 0,
			resumed: resumed?.paths.base,
		});
	} finally {
		for (const each of open.reverse()) await each.close();
	}
}

/** For what tells a training run of one model: its notes are all that it says here. */
function notesTo(say: (event: CascadeEvent) => void): (event: TrainEvent) => void {
	return (event) => event.kind === 'note' && say(event);
}

function predictionText({ plan }: NonNullable<CascadePlan['planned']>, isFilled: boolean): string {
	const share = (ratio: number) => `${(100 * ratio).toFixed(1)} %`;
	const { unfilled, filled } = plan.bubbleRatio;
	const bubbles = isFilled ? `${share(unfilled)} before and ${share(filled)} after filling` : share(unfilled);
	return `planned: ${plan.iterationMs.toFixed(0)} ms per step predicted, bubbles ${bubbles}`;
}

async function runSteps(run: Run): Promise<CascadeResult> {
	const { config, options, say, folder, session, stepping, firstStep } = run;
	const { base } = config;
	const { max_steps: maxSteps, batch_size: batchSize } = base.train;
	const { signal, clock = () => performance.now() } = options;
	// A run that goes on from its start measures held-out losses of step 0 again.
	const resumeFrom = firstStep > 0 ? firstStep + 1 : 0;
	const metrics = await openJsonLines(folder.metrics, { resumeFrom });
	const events = base.log.tensorboard ? new EventWriter(folder.root, options.resume === undefined ? {} : { resumeFrom }) : undefined;
	const record = stepRecorder(folder, base.parallel.threads_per_device, notesTo(say));
	const drawn: string[] = [];
	let step = firstStep;
	let saved = firstStep > 0 ? firstStep : -1;
	let good = run.resumed;
	const save = async () => {
		if (saved === step) return;
		await saveCascade(folder, run.content, step, good);
		saved = step;
		good = join(folder.checkpoints, 'base', checkpointName(step));
		say({ kind: 'checkpoint', step, path: folder.checkpoints });
	};
	const evaluate = async () => {
		if (!run.evaluation) return;
		const start = clock();
		const found = await run.evaluation.run();
		const ms = clock() - start;
		const each = perBackbone((name) => {
			const quantiles = Object.fromEntries(found[name].quantiles.map(({ quantile, loss }) => [String(quantile), loss]));
			return { eval_loss: found[name].loss, eval_loss_quantiles: quantiles };
		});
		metrics.append({ step, ...each, eval_ms: ms });
		events?.scalars(step, Object.fromEntries(backboneNames.map((name) => [`eval/${name}/loss`, found[name].loss])));
		say({ kind: 'eval', step, ...found, ms });
	};
	const draw = async () => {
		if (!options.samples || !base.sample.enabled) return;
		say({ kind: 'note', text: `drawing samples at step ${step}` });
		const path = join(folder.samples, `${checkpointName(step)}.png`);
		const picture = await options.samples(run.content.models, currentWeights(run.content), config, run.content.text);
		await writeWhole(path, picture.png);
		events?.image('samples', picture, step);
		drawn.push(path);
		say({ kind: 'sample', step, path });
	};
	const began = clock();
	try {
		if (firstStep === 0 && base.eval.before_first_step) await evaluate();
		const prepare = async (next: number) => (next < maxSteps ? stepping.feeds(next) : undefined);
		let prepared = prepare(firstStep);
		// A failed load is thrown when its turn comes; until then it must not count as unhandled.
		prepared.catch(() => {});
		if (stepping.ahead && step < maxSteps) await session.begin(await stepping.ahead(step));
		let losses = perBackbone(() => Number.NaN);
		while (step < maxSteps && !signal?.aborted) {
			const feeds = (await prepared)!;
			const ahead = step + 1 < maxSteps ? await stepping.ahead?.(step + 1) : undefined;
			const start = clock();
			const hypers = perBackbone((name) => hyperOf(config[name], step));
			const trace = base.log.trace_every_steps > 0 && (step + 1) % base.log.trace_every_steps === 0;
			const running = session.step({ feeds, hyper: perBackbone((name) => hypers[name].hyper), ahead, trace });
			prepared = prepare(step + 1);
			prepared.catch(() => {});
			const result = await running;
			step++;
			checkLosses(result, step, good);
			const stepMs = clock() - start;
			const { gradNorms, traced } = result;
			losses = result.losses;
			if (step % base.log.every_steps === 0 || step === maxSteps) {
				const each = perBackbone((name) => ({ loss: losses[name], grad_norm: gradNorms[name], lr: hypers[name].lr }));
				const speed = { step_ms: stepMs, images_per_s: (1000 * batchSize) / stepMs };
				metrics.append({ step, ...each, ...speed });
				events?.scalars(step, {
					...Object.fromEntries(
						backboneNames.flatMap((name) => Object.entries(each[name]).map(([key, value]) => [`train/${name}/${key}`, value])),
					),
					'perf/step_ms': speed.step_ms,
					'perf/images_per_s': speed.images_per_s,
				});
			}
			if (trace && traced) await record({ step, stepMs, ...traced }, traced.compiled === session.plan.compiled ? folder : undefined);
			say({ kind: 'step', step, maxSteps, losses, gradNorms, stepMs });
			// Before saving: a run resumed from here has the measurement already.
			if (run.evaluation && (step % base.eval.every_steps === 0 || step === maxSteps)) await evaluate();
			const { every_steps: every } = base.checkpoint;
			if (every > 0 && step % every === 0) await save();
			if (base.sample.every_steps > 0 && step % base.sample.every_steps === 0 && step < maxSteps) await draw();
		}
		await save();
		const finished = step >= maxSteps;
		if (finished) {
			await draw();
			await finishCascade(folder, run.content, step);
		}
		const seconds = (clock() - began) / 1000;
		const { skipped: skippedFiles } = run.loader;
		return { step, finished, losses, seconds, skippedFiles, pipeline: finished ? folder.pipeline : undefined, samples: drawn };
	} finally {
		metrics.close();
		events?.close();
	}
}

/** Averaged where an average is kept. */
function currentWeights({ session, average }: CascadeContent): PerBackbone<(parameter: string) => Float32Array> {
	const role = average === undefined ? 'parameter' : ({ moment: average } as const);
	return perBackbone((name) => {
		const byName = new Map(session.parameters[name].map((p) => [p.name, p]));
		return (parameter) => byName.get(parameter)!.views(role)[0]!;
	});
}

function checkLosses({ losses, gradNorms }: CascadeStepped, step: number, good: string | undefined): void {
	for (const name of backboneNames) {
		if (Number.isFinite(losses[name]) && Number.isFinite(gradNorms[name])) continue;
		throw new DiffusionPipeError('engine', 'the loss is no longer a finite number', {
			place: `${name}, step ${step}`,
			found: `loss ${losses[name]}, gradient norm ${gradNorms[name]}`,
			hint: divergedHint({ rate: rateOf(name), good }),
		});
	}
}
