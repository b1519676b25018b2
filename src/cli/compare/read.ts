/** @file What `compare` compares: the folder of a run, or files of one's own. */
import { existsSync, statSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { DiffusionPipeError } from '../../core/errors.ts';
import { readJson, readJsonObject } from '../../io/json-file.ts';
import { readCluster } from '../../plan/cluster/read.ts';
import { kindsPredicted } from '../../plan/expected.ts';
import { readPlan } from '../../plan/plan-json.ts';
import { readProfile } from '../../plan/profile/read.ts';
import { walkPlan } from '../../plan/search/simulate-plan.ts';
import { commonDevices, compareTimelines } from '../../program/compare.ts';
import type { Compared } from '../../program/picture/compare-picture.ts';
import { planTimeline } from '../../program/plan-timeline.ts';
import { readRecord } from '../../program/step-record.ts';
import { shellWord } from '../format.ts';
import { idealCluster } from '../plan/devices.ts';

/** Options that name files. */
interface Given {
	readonly plan: string | undefined;
	readonly timeline: string | undefined;
	readonly profile: string | undefined;
	readonly cluster: string | undefined;
}

/**
 * Prediction and measurement; of the folder of a run with self-conditioning those of a step without and of a step with a sweep ahead, as far as both were
 * measured. At least one. Throws a usage error for what is missing, an input error naming file and field for bad files.
 */
export async function readCompared(run: string | undefined, given: Given, cwd: string): Promise<readonly Compared[]> {
	const files = run === undefined ? filesNamed(given) : await filesOfRun(run, given, cwd);
	const read = async <T>(name: string, reader: (raw: unknown, place: string) => T): Promise<T> =>
		reader(await readJson(resolve(cwd, name)), name);
	const [plan, profile] = [await read(files.plan, readPlan), await read(files.profile, readProfile)];
	const cluster = existsSync(resolve(cwd, files.cluster)) ? await read(files.cluster, readCluster) : idealCluster(plan.devices);
	const kinds = kindsPredicted(walkPlan(plan, profile, cluster));
	const compared: Compared[] = [];
	for (const file of files.timelines) {
		const record = await read(file, readRecord);
		const answer = kinds.find(({ swept }) => swept === (record.swept ?? false));
		if (!answer) {
			throw new DiffusionPipeError('input', 'is a step with self-conditioning, of which the plan says nothing', {
				place: file,
				hint: 'the plan of a run with objective.self_conditioning above 0 does',
			});
		}
		const predicted = planTimeline(answer, profile.frozen);
		const { measured } = commonDevices(predicted, record);
		if (measured.devices.length === 0) {
			throw new DiffusionPipeError('input', 'has none of the devices of the plan', {
				place: file,
				expected: predicted.devices.map(({ device }) => device).join(', '),
				found: record.devices.map(({ device }) => device).join(', ') || 'none',
			});
		}
		const comparison = compareTimelines(predicted, record);
		compared.push({ swept: answer.swept, answer, frozen: profile.frozen, comparison, measured, record });
	}
	return compared;
}

interface Files extends Readonly<Record<'plan' | 'profile' | 'cluster', string>> {
	/** At least one. */
	readonly timelines: readonly string[];
}

async function filesOfRun(run: string, given: Given, cwd: string): Promise<Files> {
	const path = resolve(cwd, run);
	if (!existsSync(path) || !statSync(path).isDirectory()) {
		throw new DiffusionPipeError('input', 'is no folder', { place: run, expected: 'the folder of a run' });
	}
	const measured = ['timeline.json', 'timeline-swept.json'].map((name) => join(run, name)).filter((file) => existsSync(resolve(cwd, file)));
	const files = {
		plan: given.plan ?? join(run, 'plan.json'),
		timelines: given.timeline === undefined ? measured : [given.timeline],
		profile: given.profile ?? join(run, 'profile.json'),
		cluster: given.cluster ?? join(run, 'cluster.json'),
	};
	const missing = files.timelines.length === 0 || !files.timelines.every((file) => existsSync(resolve(cwd, file)));
	if (missing && given.timeline !== undefined) {
		throw new DiffusionPipeError('input', 'is not there', {
			place: given.timeline,
			expected: 'a traced step, as runs/emoji/timeline.json',
		});
	}
	const root = rootOf(run, cwd);
	const isRun = existsSync(resolve(cwd, root, 'config.json'));
	// A run that planned nothing has nothing to be traced for.
	for (const file of missing && !isRun ? [] : [files.plan, files.profile]) {
		if (existsSync(resolve(cwd, file))) continue;
		throw new DiffusionPipeError('input', 'is not there, so nothing was predicted', {
			place: file,
			hint: 'runs that measure their layers keep both: several stages with parallel.partition_method = "time", or frozen.cache = "fill"',
		});
	}
	if (missing) {
		throw new DiffusionPipeError('input', 'has no measured step', {
			place: join(run, 'timeline.json'),
			hint: isRun
				? await howToTrace(root, root !== run, cwd)
				: 'diffusionpipe train ... --set log.trace_every_steps=10, and compare its folder',
		});
	}
	return files;
}

/** The folder of the run that `run` is of: itself, or where it is that of a size of images (`sizes/64x64`) the one that holds it. */
function rootOf(run: string, cwd: string): string {
	if (basename(dirname(resolve(cwd, run))) !== 'sizes') return run;
	const root = join(run, '..', '..');
	return existsSync(resolve(cwd, root, 'config.json')) ? root : run;
}

/** The command that traces a step of the run in `root`: one that has done all its steps needs more of them, and a size may be far from every tenth. */
async function howToTrace(root: string, isSize: boolean, cwd: string): Promise<string> {
	const folder = resolve(cwd, root);
	const config = await readJsonObject(join(folder, 'config.json')).catch((): Record<string, unknown> => ({}));
	const { train } = ((config.base as typeof config | undefined) ?? config) as { train?: { max_steps?: unknown } };
	const [{ listCheckpoints }, { newestCascadeSave }] = await Promise.all([
		import('../../train/checkpoint.ts'),
		import('../../train/cascade/saves.ts'),
	]);
	const newest = (await listCheckpoints(join(folder, 'checkpoints'))).at(-1) ?? (await newestCascadeSave(folder));
	const steps = train?.max_steps;
	const isDone = typeof steps === 'number' && newest !== undefined && newest.step >= steps;
	const more = isDone ? ` --set train.max_steps=${steps + (isSize ? 100 : 10)}` : '';
	return `diffusionpipe train ... --output-dir ${shellWord(root)} --resume --set log.trace_every_steps=${isSize ? 1 : 10}${more}`;
}

/** Profile and cluster are looked for beside the plan. */
function filesNamed({ plan, timeline, profile, cluster }: Given): Files {
	for (const [flag, value] of [
		['--plan', plan],
		['--timeline', timeline],
	] as const) {
		if (value !== undefined) continue;
		throw new DiffusionPipeError('usage', 'is missing', {
			place: flag,
			expected: 'the folder of a run, or --plan p.json and --timeline t.json',
			hint: 'diffusionpipe compare runs/emoji',
		});
	}
	const beside = (name: string) => join(dirname(plan!), name);
	return { plan: plan!, timelines: [timeline!], profile: profile ?? beside('profile.json'), cluster: cluster ?? beside('cluster.json') };
}
