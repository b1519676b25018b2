/** @file What `compare` compares: the folder of a run, or files of one's own. */
import { existsSync, statSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { DiffusionPipeError } from '../../core/errors.ts';
import { readJson } from '../../io/json-file.ts';
import { readCluster } from '../../plan/cluster/read.ts';
import { kindsPredicted } from '../../plan/expected.ts';
import { readPlan } from '../../plan/plan-json.ts';
import { readProfile } from '../../plan/profile/read.ts';
import { walkPlan } from '../../plan/search/simulate-plan.ts';
import { commonDevices, compareTimelines } from '../../program/compare.ts';
import type { Compared } from '../../program/picture/compare-picture.ts';
import { planTimeline } from '../../program/plan-timeline.ts';
import { readRecord } from '../../program/step-record.ts';
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
	const files = run === undefined ? filesNamed(given) : filesOfRun(run, given, cwd);
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

function filesOfRun(run: string, given: Given, cwd: string): Files {
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
	if (files.timelines.length === 0 || !files.timelines.every((file) => existsSync(resolve(cwd, file)))) {
		throw new DiffusionPipeError('input', 'has no measured step', {
			place: files.timelines[0] ?? join(run, 'timeline.json'),
			hint: `diffusionpipe train ... --output-dir ${run} --resume --set log.trace_every_steps=10`,
		});
	}
	for (const file of [files.plan, files.profile]) {
		if (existsSync(resolve(cwd, file))) continue;
		throw new DiffusionPipeError('input', 'is not there, so nothing was predicted', {
			place: file,
			hint: 'runs that measure their layers keep both: several stages with parallel.partition_method = "time", or frozen.cache = "fill"',
		});
	}
	return files;
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
