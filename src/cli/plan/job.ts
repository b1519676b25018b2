/** @file From the command line to a job: profile, cluster and batch. */
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { DiffusionPipeError, nearestName } from '../../core/errors.ts';
import { readJson } from '../../io/json-file.ts';
import { accelerators } from '../../plan/analytic/accelerators.ts';
import { namedJobs } from '../../plan/analytic/named-jobs.ts';
import type { Cluster } from '../../plan/cluster/types.ts';
import { readProfile } from '../../plan/profile/read.ts';
import type { Profile } from '../../plan/profile/types.ts';
import type { TrainConfig } from '../../train/config.ts';
import { devicesPerPipeline } from '../../train/layout.ts';
import type { OptionValues } from '../command.ts';
import { givenCluster, idealCluster } from './devices.ts';
import type { jobOptions } from './job-options.ts';

export interface PlanJob {
	readonly profile: Profile;
	readonly cluster: Cluster;
	readonly batch: number;
}

type Given = OptionValues<typeof jobOptions>;

/** Where a job is looked for, and who hears what takes long. */
interface Surroundings {
	readonly cwd: string;
	readonly note: (line: string) => void;
}

/**
 * The job that the command line names: a profile file, a published job on an accelerator, or a preset, config or model folder, computed for an accelerator
 * or measured here. Batch and devices are those of a config unless given. Throws a usage error for what is missing or said twice, a config or input error
 * naming file and field for bad files.
 */
export async function givenJob(name: string | undefined, given: Given, around: Surroundings): Promise<PlanJob> {
	if (given.profile !== undefined) return await fileJob(name, given.profile, given, around);
	if (name === undefined) {
		throw new DiffusionPipeError('usage', 'nothing to plan', {
			place: 'profile',
			expected: `a job (${Object.keys(namedJobs).join(', ')}), a preset, a config, a model folder, or --profile p.json`,
			hint: 'diffusionpipe plan sd21 --accelerator A100-80 --batch 256',
		});
	}
	if (Object.hasOwn(namedJobs, name) && given.set.length === 0) return await publishedJob(name, given, around);
	if (['model_index.json', 'config.json'].some((file) => existsSync(join(resolve(around.cwd, name), file))))
		return await modelJob(name, given, around);
	return await configuredJob(name, given, around);
}

async function fileJob(name: string | undefined, file: string, given: Given, { cwd, note }: Surroundings): Promise<PlanJob> {
	if (name !== undefined)
		throw new DiffusionPipeError('usage', 'is given beside --profile', { place: name, expected: 'the one or the other' });
	const cluster = needCluster(await givenCluster(given, cwd, freeDevices(note)));
	const batch = needBatch(given.batch);
	return { profile: readProfile(await readJson(resolve(cwd, file)), file), cluster, batch };
}

async function publishedJob(name: string, given: Given, { cwd, note }: Surroundings): Promise<PlanJob> {
	if (given.accelerator === undefined) {
		throw new DiffusionPipeError('usage', 'is missing', {
			place: '--accelerator',
			expected: accelerators.map((a) => a.name).join(', '),
			hint: `--accelerator A100-80, on which ${name} is then priced`,
		});
	}
	const cluster = needCluster(await givenCluster(given, cwd, freeDevices(note)));
	const batch = needBatch(given.batch);
	const { computedProfile } = await import('../profile/index.ts');
	return { profile: await computedProfile({ name, sets: [], cwd }, given.accelerator, { precision: 'mixed' }), cluster, batch };
}

async function modelJob(name: string, given: Given, { cwd, note }: Surroundings): Promise<PlanJob> {
	const { localCluster } = await import('../../train/planned.ts');
	const cluster = needCluster(await givenCluster(given, cwd, (devices) => localCluster(devices, 0)));
	const batch = needBatch(given.batch);
	const { folderJob } = await import('./folder-job.ts');
	const job = await folderJob(resolve(cwd, name));
	if (given.accelerator === undefined) {
		note(`measuring the layers of ${name}`);
		const { measureProfile } = await import('../../engine/local/profile.ts');
		return { profile: await measureProfile(job), cluster, batch };
	}
	const [{ acceleratorByName }, { jobWork }, { profileOf }] = await Promise.all([
		import('../../plan/analytic/accelerators.ts'),
		import('../../plan/analytic/chain-work.ts'),
		import('../../plan/analytic/profile.ts'),
	]);
	return { profile: profileOf(jobWork(job), acceleratorByName(given.accelerator)), cluster, batch };
}

async function configuredJob(name: string, given: Given, { cwd, note }: Surroundings): Promise<PlanJob> {
	const config = await configOf(name, given, cwd);
	const { localCluster } = await import('../../train/planned.ts');
	const { memory_bytes } = config.parallel;
	const local = (devices: number) => localCluster(devices, memory_bytes);
	const cluster = (await givenCluster(given, cwd, local)) ?? local(devicesPerPipeline(config.parallel) * config.parallel.data_parallel);
	const batch = given.batch ?? config.train.batch_size;
	const { computedProfile, measuredProfile } = await import('../profile/index.ts');
	const source = { name, sets: given.set, cwd };
	if (given.accelerator !== undefined)
		return { profile: await computedProfile(source, given.accelerator, { precision: 'mixed' }), cluster, batch };
	note(`measuring the layers of ${name}`);
	return { profile: await measuredProfile(source, { note }), cluster, batch };
}

async function configOf(name: string, { set }: Given, cwd: string): Promise<TrainConfig> {
	const { loadTraining } = await import('../config-file.ts');
	try {
		return (await loadTraining(name, set, cwd)).config;
	} catch (error) {
		const near = nearestName(name, Object.keys(namedJobs));
		if (near === undefined || !(error instanceof DiffusionPipeError) || error.parts.place !== name) throw error;
		// A published job was meant rather than a preset.
		throw new DiffusionPipeError(error.kind, error.what, { ...error.parts, hint: `did you mean ${near}?` });
	}
}

/** Devices about which nothing else is known. */
function freeDevices(note: (line: string) => void): (devices: number) => Cluster {
	return (devices) => {
		note('links and memory are taken as free: --accelerator or --cluster says what they are');
		return idealCluster(devices);
	};
}

function needCluster(cluster: Cluster | undefined): Cluster {
	if (cluster) return cluster;
	throw new DiffusionPipeError('usage', 'no devices are given', {
		place: 'cluster',
		expected: '--cluster c.json, --accelerator NAME or --devices n',
		hint: '--accelerator A100-80 --hosts 1 --devices-per-host 8',
	});
}

function needBatch(batch: number | undefined): number {
	if (batch !== undefined) return batch;
	throw new DiffusionPipeError('usage', 'is missing', { place: '--batch', expected: 'samples of one step over all devices' });
}
