/** @file What a cascade leaves on disk: a checkpoint of each model at the same steps, and both as one pipeline. */
import { stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { DiffusionPipeError } from '../../core/errors.ts';
import { writeFolderAtomic } from '../../io/atomic.ts';
import { readJson } from '../../io/json-file.ts';
import { readCluster } from '../../plan/cluster/read.ts';
import { readPlan } from '../../plan/plan-json.ts';
import { readProfile } from '../../plan/profile/read.ts';
import {
	type CheckpointContent,
	checkpointName,
	listCheckpoints,
	namingEarlier,
	partName,
	pruneCheckpoints,
	readCheckpointTensors,
	readVerifiedState,
	repairCheckpoints,
	type TrainingState,
	writeCheckpoint,
	writePipelineFolder,
} from '../checkpoint.ts';
import { configDifferences } from '../config-difference.ts';
import { checkFinite } from '../finite.ts';
import type { FrozenText } from '../frozen.ts';
import type { Planned } from '../planned.ts';
import { type RunFolder, runFolder } from '../run-folder.ts';
import { type BackboneName, backboneNames, type CascadeConfig, type PerBackbone, perBackbone } from './config.ts';
import type { CascadeModels } from './models.ts';
import type { CascadeSession } from './session.ts';

const moments = { exp_avg: 0, exp_avg_sq: 1 } as const;

/** A step of which both models have a checkpoint. */
export interface CascadeSave {
	readonly step: number;
	readonly paths: PerBackbone<string>;
}

/** The newest step, of those before `before` where it is given, of which both models have a whole checkpoint in the folder of a run. */
export async function newestCascadeSave(root: string, before = Number.POSITIVE_INFINITY): Promise<CascadeSave | undefined> {
	const { checkpoints } = runFolder(root);
	const listed = { base: await listIn('base'), super_resolution: await listIn('super_resolution') };
	const step = listed.base.findLast((known) => known < before && listed.super_resolution.includes(known));
	return step === undefined ? undefined : { step, paths: perBackbone((name) => join(checkpoints, name, checkpointName(step))) };

	async function listIn(name: BackboneName): Promise<number[]> {
		return (await listCheckpoints(join(checkpoints, name))).map((save) => save.step);
	}
}

/** The save that `path`, a checkpoint of either model, is of; undefined where the other model has none beside it. */
export async function cascadeSaveOf(path: string): Promise<CascadeSave | undefined> {
	const step = /^step-(\d+)$/.exec(basename(path))?.[1];
	if (step === undefined || !backboneNames.some((name) => name === basename(dirname(resolve(path))))) return undefined;
	const paths = perBackbone((name) => join(path, '..', '..', name, basename(path)));
	const both = await Promise.all(backboneNames.map((name) => isFolder(paths[name])));
	return both.every(Boolean) ? { step: Number(step), paths } : undefined;
}

function isFolder(path: string): Promise<boolean> {
	return stat(path).then(
		(found) => found.isDirectory(),
		() => false,
	);
}

/** What a run is resumed from. */
export interface ResumedCascade extends CascadeSave {
	readonly cuts: PerBackbone<readonly number[]>;
	/** Of the run's folder, where it has one that can be read. */
	readonly planned: Planned | undefined;
}

/**
 * The newest save of the run in `folder`, or that of the checkpoint `from`. Throws an input error when `from` is none, a config error when what is learned is
 * another than then, unless that is allowed.
 */
export async function resumedCascade(
	folder: RunFolder,
	config: CascadeConfig,
	{ from, allowConfigChange }: { readonly from: string | undefined; readonly allowConfigChange: boolean },
): Promise<ResumedCascade | undefined> {
	for (const name of backboneNames) await repairCheckpoints(join(folder.checkpoints, name));
	const save = from === undefined ? await newestCascadeSave(folder.root) : await cascadeSaveOf(from);
	if (!save) {
		if (from === undefined) return undefined;
		throw new DiffusionPipeError('input', 'is no checkpoint of a cascade', {
			place: from,
			expected: `a checkpoint of one of its models, as ${join(folder.checkpoints, 'base', checkpointName(1000))}, with that of the other`,
		});
	}
	const states = await verifiedStates(folder, save);
	const old = states.base.config as unknown as CascadeConfig;
	const each = backboneNames.flatMap((name) => configDifferences(old[name], config[name], '').map((text) => `${name}.${text}`));
	const differences = [...each, ...configDifferences(old.condition_noise, config.condition_noise, 'condition_noise')];
	if (differences.length > 0 && !allowConfigChange) {
		throw new DiffusionPipeError('config', 'differs from the run that made the checkpoint', {
			place: save.paths.base,
			found: differences.join('; '),
			hint: 'give the old values, or --allow-config-change to go on with the new ones',
		});
	}
	return { ...save, cuts: perBackbone((name) => states[name].cuts), planned: await knownPlan(folder) };
}

async function verifiedStates({ root }: RunFolder, { step, paths }: CascadeSave): Promise<PerBackbone<TrainingState>> {
	try {
		return { base: await readVerifiedState(paths.base), super_resolution: await readVerifiedState(paths.super_resolution) };
	} catch (error) {
		throw namingEarlier(error, (await newestCascadeSave(root, step))?.paths.base);
	}
}

/** What the run was planned from, if it is there and whole. */
async function knownPlan(folder: RunFolder): Promise<Planned | undefined> {
	try {
		return {
			profile: readProfile(await readJson(folder.profile), folder.profile),
			cluster: readCluster(await readJson(folder.cluster), folder.cluster),
			plan: readPlan(await readJson(folder.plan), folder.plan),
		};
	} catch {
		return undefined;
	}
}

/** What is saved of a cascade. */
export interface CascadeContent {
	readonly config: CascadeConfig;
	readonly models: CascadeModels;
	readonly session: Pick<CascadeSession, 'plan' | 'parameters'>;
	readonly text: FrozenText | undefined;
	readonly classes: readonly string[] | undefined;
	/** Moment with the moving average of the weights, if one is kept. */
	readonly average: number | undefined;
}

/** Reads both models' tensors into the banks of every replica. Throws what `readCheckpointTensors` throws. */
export async function readCascade({ paths }: CascadeSave, { models, session, average }: CascadeContent): Promise<void> {
	for (const name of backboneNames) {
		const part = partName(models.parts[name].className);
		await readCheckpointTensors(paths[name], part, session.parameters[name], moments, average, false);
	}
}

/** Config key of a model's learning rate. */
export function rateOf(name: BackboneName): string {
	return name === 'base' ? 'optimizer.lr' : `${name}.optimizer.lr`;
}

/** Writes a checkpoint of each model, and removes old ones. `good` is the one before. Throws what `checkFinite` throws, before any is written. */
export async function saveCascade(folder: RunFolder, content: CascadeContent, step: number, good: string | undefined): Promise<void> {
	const folders = perBackbone((name) => join(folder.checkpoints, name));
	const contents = perBackbone((name) => contentOf(content, name, step));
	for (const name of backboneNames) checkFinite(contents[name], { rate: rateOf(name), good, model: name });
	for (const name of backboneNames) await writeCheckpoint(folders[name], contents[name]);
	for (const name of backboneNames) await pruneCheckpoints(folders[name], content.config.base.checkpoint.keep_last, step);
}

/** Writes the base as a pipeline, and in its folder the other as `super_resolution`. */
export async function finishCascade(folder: RunFolder, content: CascadeContent, step: number): Promise<void> {
	const role = content.average === undefined ? 'parameter' : ({ moment: content.average } as const);
	await writeFolderAtomic(
		folder.pipeline,
		async (dir) => {
			await writePipelineFolder(dir, contentOf(content, 'base', step), role);
			await writePipelineFolder(join(dir, 'super_resolution'), contentOf(content, 'super_resolution', step), role);
		},
		{ replace: true },
	);
}

function contentOf(
	{ config, models, session, text, classes, average }: CascadeContent,
	name: BackboneName,
	step: number,
): CheckpointContent {
	const { denoiser, className, scheduler } = models.parts[name];
	return {
		state: { version: 1, step, cuts: session.plan.cuts[name], config: config as unknown as Record<string, unknown> },
		model: { className, config: denoiser.config },
		scheduler,
		classes,
		frozen: { vae: undefined, text: models.texts[name].length > 0 ? text : undefined },
		sample: { steps: config.base.sample.steps, guidanceScale: config.base.sample.guidance_scale },
		parameters: session.parameters[name],
		moments,
		average,
		lora: undefined,
	};
}
