/**
 * @file Training of a cascade (Ho et al., arXiv 2106.15282): a base model that draws small images, and one that enlarges them, told the small image by
 * channels beside its sample. Both are trained at the same time, as one bidirectional pipeline.
 */
import { join } from 'node:path';
import { DiffusionPipeError } from '../core/errors.ts';
import { writeFolderAtomic, writeWhole } from '../io/atomic.ts';
import { writeJson } from '../io/json-file.ts';
import { openJsonLines } from '../io/jsonl.ts';
import { formatProgram } from '../program/text.ts';
import { type BackboneName, backboneNames, type CascadeConfig } from './cascade-config.ts';
import { type Cascade, createCascade } from './cascade-models.ts';
import { openCascadeSession, type PerBackbone, perBackbone } from './cascade-session.ts';
import {
	type CheckpointContent,
	checkpointName,
	listCheckpoints,
	partName,
	pruneCheckpoints,
	readCheckpointTensors,
	readTrainingState,
	repairCheckpoints,
	writeCheckpoint,
	writePipelineFolder,
} from './checkpoint.ts';
import { configDifferences } from './config-difference.ts';
import type { DataOptions } from './data/index.ts';
import { openLoader } from './data/loader.ts';
import type { TrainEvent } from './events.ts';
import { prepareRunFolder, runFolder } from './run-folder.ts';
import { hyperOf } from './session.ts';
import type { DrawnSamples } from './trainer.ts';

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

export type CascadeEvent =
	| Extract<TrainEvent, { readonly kind: 'note' | 'plan' | 'resumed' | 'sample' | 'checkpoint' | 'skipped' }>
	| CascadeStep;

export interface CascadeOptions {
	/** Goes on from the newest checkpoint of the run; begins anew when there is none. */
	readonly resume?: boolean;
	/** Removes a run that is in the output folder already. */
	readonly overwrite?: boolean;
	/** When aborted, the step under way is finished and a checkpoint written. */
	readonly signal?: AbortSignal;
	readonly onEvent?: (event: CascadeEvent) => void;
	/** Draws the samples; without it no pictures are made. */
	readonly samples?: CascadeDrawer;
	/** Milliseconds of a steady clock. Default performance.now. */
	readonly clock?: () => number;
}

/** How a cascade's training ended. */
export interface CascadeResult {
	/** Steps done, over all resumes. */
	readonly step: number;
	/** False when the run was asked to stop before its last step. */
	readonly finished: boolean;
	/** Of the last step. */
	readonly losses: PerBackbone<number>;
	readonly seconds: number;
	readonly skippedFiles: number;
	/** A pipeline of the base with averaged weights, and in its folder `super_resolution` the other; once finished. */
	readonly pipeline: string | undefined;
	readonly samples: readonly string[];
}

const moments = { exp_avg: 0, exp_avg_sq: 1 } as const;

/**
 * Trains both models of a cascade as `config` says, each with a loss and an optimiser of its own, on `parallel.pipeline_stages` devices a pipeline. A step gives
 * the losses that each alone has on one device, within rounding, and a resumed run those of a run never stopped, to the bit on the same devices.
 * @throws DiffusionPipeError: config and input errors before any work, engine errors during it
 */
export async function trainCascade(config: CascadeConfig, options: CascadeOptions = {}): Promise<CascadeResult> {
	const { resume = false, overwrite = false, signal, onEvent: say = () => {}, samples: draw, clock = () => performance.now() } = options;
	const { base } = config;
	const { max_steps: maxSteps, batch_size: batchSize, flip, ema_decay } = base.train;
	const average = ema_decay > 0;
	const folder = runFolder(base.output_dir);
	const saves = perBackbone((name) => join(folder.checkpoints, name));
	const resumed = resume ? await newestSave(saves, config) : undefined;
	await prepareRunFolder(folder, { resume, overwrite });
	say({ kind: 'note', text: `opening data set ${base.data.type}` });
	const onBroken = (name: string, reason: string) => say({ kind: 'skipped', name, reason });
	const loader = await openLoader(base.data as DataOptions, { seed: base.seed, batchSize, flip, onBroken });
	try {
		const cascade = createCascade(config, loader.info);
		const chains = perBackbone((name) => cascade.parts[name].chain);
		const seeds = perBackbone((name) => config[name].seed);
		const session = await openCascadeSession(chains, config, { average, ...(resumed ? { cuts: resumed.cuts } : { seeds }) });
		const firstStep = resumed?.step ?? 0;
		const metrics = await openJsonLines(folder.metrics, { resumeFrom: firstStep + 1 });
		try {
			const text = formatProgram(session.compiled.program);
			say({ kind: 'plan', devices: session.compiled.program.devices.length, stages: session.stages, text });
			await writeWhole(folder.programs, text);
			await writeJson(folder.config, config);
			for (const name of resumed ? backboneNames : []) {
				const path = join(saves[name], checkpointName(firstStep));
				const part = partName(cascade.parts[name].className);
				await readCheckpointTensors(path, part, session.parameters[name], moments, average ? 2 : undefined, false);
			}
			if (resumed) say({ kind: 'resumed', step: firstStep, path: folder.checkpoints });
			const role = average ? ({ moment: 2 } as const) : 'parameter';
			const content = (name: BackboneName, step: number): CheckpointContent => {
				const { denoiser, className, scheduler } = cascade.parts[name];
				return {
					state: { version: 1, step, cuts: session.cuts[name], config: config as unknown as Record<string, unknown> },
					model: { className, config: denoiser.config },
					scheduler,
					classes: loader.info.classes,
					frozen: { vae: undefined, text: undefined },
					sample: { steps: base.sample.steps, guidanceScale: base.sample.guidance_scale },
					parameters: session.parameters[name],
					moments,
					average: average ? 2 : undefined,
					lora: undefined,
				};
			};
			let saved = resumed ? firstStep : -1;
			const save = async (step: number) => {
				if (saved === step) return;
				for (const name of backboneNames) await writeCheckpoint(saves[name], content(name, step));
				for (const name of backboneNames) await pruneCheckpoints(saves[name], base.checkpoint.keep_last);
				saved = step;
				say({ kind: 'checkpoint', step, path: folder.checkpoints });
			};
			const finish = (step: number) =>
				writeFolderAtomic(
					folder.pipeline,
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
			let prepared = prepare(firstStep);
			// A failed load is thrown when its turn comes; until then it must not count as unhandled.
			prepared.catch(() => {});
			let losses = perBackbone(() => Number.NaN);
			let step = firstStep;
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
				if (every > 0 && step % every === 0) await save(step);
				if (base.sample.every_steps > 0 && step % base.sample.every_steps === 0 && step < maxSteps) await drawAt(step);
			}
			await save(step);
			const finished = step >= maxSteps;
			if (finished) {
				await drawAt(step);
				await finish(step);
			}
			const { skipped: skippedFiles } = loader;
			const seconds = (clock() - began) / 1000;
			const pipeline = finished ? folder.pipeline : undefined;
			return { step, finished, losses, seconds, skippedFiles, pipeline, samples: drawn };
		} finally {
			metrics.close();
			await session.close();
		}
	} finally {
		await loader.close();
	}
}

/** The newest step of which both models have a checkpoint, with its cuts. Throws a config error when what is learned is another than then. */
async function newestSave(
	saves: PerBackbone<string>,
	config: CascadeConfig,
): Promise<{ readonly step: number; readonly cuts: PerBackbone<readonly number[]> } | undefined> {
	for (const name of backboneNames) await repairCheckpoints(saves[name]);
	const [base, larger] = [await listCheckpoints(saves.base), await listCheckpoints(saves.super_resolution)];
	const step = base.map((save) => save.step).findLast((known) => larger.some((save) => save.step === known));
	if (step === undefined) return undefined;
	const stateOf = (name: BackboneName) => readTrainingState(join(saves[name], checkpointName(step)));
	const states = { base: await stateOf('base'), super_resolution: await stateOf('super_resolution') };
	const old = states.base.config as unknown as CascadeConfig;
	const each = backboneNames.flatMap((name) => configDifferences(old[name], config[name], '').map((text) => `${name}.${text}`));
	const differences = [...each, ...configDifferences(old.condition_noise, config.condition_noise, 'condition_noise')];
	if (differences.length > 0) {
		throw new DiffusionPipeError('config', 'differs from the run that made the checkpoint', {
			place: saves.base,
			found: differences.join('; '),
			hint: 'give the old values',
		});
	}
	return { step, cuts: perBackbone((name) => states[name].cuts) };
}
