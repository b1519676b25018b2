/** @file What `simulate` walks: a plan that was written before, with its own job or another, or a division given on the command line. */
import { existsSync, statSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { DiffusionPipeError } from '../../core/errors.ts';
import { readJson } from '../../io/json-file.ts';
import { readCluster } from '../../plan/cluster/read.ts';
import { draftPlan } from '../../plan/draft.ts';
import { readPlan } from '../../plan/plan-json.ts';
import { readProfile } from '../../plan/profile/read.ts';
import type { Plan } from '../../plan/types.ts';
import { flagOf, type OptionValues } from '../command.ts';
import { givenCluster, idealCluster } from './devices.ts';
import { givenJob, type PlanJob } from './job.ts';
import type { jobOptions, shapeOptions } from './job-options.ts';
import { givenShape } from './shape.ts';
import { readSplit } from './splits.ts';

type Given = OptionValues<typeof jobOptions> & OptionValues<typeof shapeOptions> & { readonly split: string | undefined };

/** A plan to walk, on what. */
export interface Walk extends Pick<PlanJob, 'profile' | 'cluster'> {
	readonly plan: Plan;
	/** As the plan says of itself; absent for one that was never walked. */
	readonly plannedMs?: number;
}

/** Throws a usage error for what is missing or contradicts, an input error naming file and field for bad files. */
export async function givenWalk(name: string | undefined, given: Given, cwd: string, note: (line: string) => void): Promise<Walk> {
	const split = given.split ?? (given.stages === 1 ? '' : undefined);
	return split === undefined ? await writtenPlan(name, given, cwd) : await givenDivision(name, split, given, { cwd, note });
}

async function givenDivision(name: string | undefined, split: string, given: Given, around: Parameters<typeof givenJob>[2]): Promise<Walk> {
	const options = givenShape(given);
	const cuts = readSplit(split);
	const { microBatches } = options;
	if (microBatches === undefined)
		throw new DiffusionPipeError('usage', 'is missing', {
			place: '--micro-batches',
			expected: 'beside --split, the micro-batches of a pipeline',
		});
	const { profile, cluster, batch } = await givenJob(name, given, around);
	return { plan: draftPlan(profile, cluster, batch, cuts, { ...options, microBatches }), profile, cluster };
}

async function writtenPlan(name: string | undefined, given: Given, cwd: string): Promise<Walk> {
	if (name === undefined) {
		throw new DiffusionPipeError('usage', 'nothing to simulate', {
			place: 'plan',
			expected: 'a plan (plan.json, or the folder that `plan --out` wrote), or a job with --split or --stages 1',
			hint: 'diffusionpipe simulate plans/a',
		});
	}
	for (const key of ['stages', 'microBatches', 'schedule', 'warmup', 'placement', 'layout', 'pipelines', 'recompute', 'fill'] as const) {
		if (given[key] === undefined) continue;
		throw new DiffusionPipeError('usage', 'is fixed by the plan', {
			place: flagOf(key),
			hint: 'walk another division with --split, or plan again with this option',
		});
	}
	const path = resolve(cwd, name);
	const folder = existsSync(path) && statSync(path).isDirectory() ? path : dirname(path);
	const shown = folder === path ? join(name, 'plan.json') : name;
	const written = readPlan(await readJson(folder === path ? join(path, 'plan.json') : path), shown);
	const beside = async <T>(file: string, read: (raw: unknown, place: string) => T, flags: string): Promise<T> => {
		const at = join(folder, file);
		if (existsSync(at)) return read(await readJson(at), join(dirname(shown), file));
		throw new DiffusionPipeError('usage', `needs ${flags}`, {
			place: shown,
			found: `no ${file} beside it`,
			hint: 'plan with --out FOLDER, which keeps both beside the plan',
		});
	};
	const { profile: file, batch = written.batch } = given;
	const profile =
		file === undefined
			? await beside('profile.json', readProfile, '--profile p.json')
			: readProfile(await readJson(resolve(cwd, file)), file);
	const cluster =
		(await givenCluster(given, cwd, idealCluster)) ?? (await beside('cluster.json', readCluster, '--cluster c.json or --accelerator NAME'));
	const unit = written.pipelines * written.microBatches;
	if (batch % unit !== 0)
		throw new DiffusionPipeError('usage', 'is not divisible', {
			place: '--batch',
			expected: `a multiple of ${unit} (pipelines x micro-batches of the plan)`,
			found: String(batch),
		});
	// Other ways of training were priced for the job that the plan was made for.
	const other = (['profile', 'cluster', 'accelerator', 'devices', 'batch'] as const).some((key) => given[key] !== undefined);
	const baselines = other ? [] : written.baselines;
	return { plan: { ...written, batch, baselines }, profile, cluster, plannedMs: written.iterationMs };
}
