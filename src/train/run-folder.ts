/** @file The folder of a run: what is in it, and whether a new run may begin there. */
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { DiffusionPipeError } from '../core/errors.ts';
import { fileError } from '../io/file-error.ts';
import { makeFolder } from '../io/make-folder.ts';

/** Paths inside a run's folder. */
export interface RunFolder {
	readonly root: string;
	readonly metrics: string;
	readonly samples: string;
	readonly checkpoints: string;
	/** The finished pipeline. */
	readonly pipeline: string;
	readonly config: string;
	/** The programs as text. */
	readonly programs: string;
	readonly traces: string;
	/** The last traced step. */
	readonly timeline: string;
	/** The last traced step with a sweep ahead. */
	readonly sweptTimeline: string;
	/** What the run was planned from, and the plan; of runs that measured their layers. */
	readonly profile: string;
	readonly cluster: string;
	readonly plan: string;
}

/** Where everything of the run in folder `root` lies. Nothing is read or made. */
export function runFolder(root: string): RunFolder {
	return {
		root,
		metrics: join(root, 'metrics.jsonl'),
		samples: join(root, 'samples'),
		checkpoints: join(root, 'checkpoints'),
		pipeline: join(root, 'pipeline'),
		config: join(root, 'config.json'),
		programs: join(root, 'programs.txt'),
		traces: join(root, 'traces'),
		timeline: join(root, 'timeline.json'),
		sweptTimeline: join(root, 'timeline-swept.json'),
		profile: join(root, 'profile.json'),
		cluster: join(root, 'cluster.json'),
		plan: join(root, 'plan.json'),
	};
}

/** Where plan, profile, programs and the last traced step of images of `size` lie, in a run of several sizes; those of the first lie in the run's folder. */
export function sizeFolder({ root }: Pick<RunFolder, 'root'>, size: string): RunFolder {
	return runFolder(join(root, 'sizes', size));
}

const ours = [
	...['metrics.jsonl', 'samples', 'checkpoints', 'pipeline', 'config.json', 'programs.txt', 'traces', 'sizes'],
	...['timeline.json', 'timeline-swept.json', 'profile.json', 'cluster.json', 'plan.json'],
];

/** What a run leaves that was refused before its first step is no run. */
async function isEmptyFolder(path: string): Promise<boolean> {
	const names = await readdir(path).catch(() => undefined);
	return names?.length === 0;
}

/**
 * Makes the folder. Without `resume` it must not hold a run: throws an input error that says how to go on, unless `overwrite`, which
 * removes the old run's files (and nothing else).
 */
export async function prepareRunFolder(
	folder: RunFolder,
	{ resume, overwrite }: { readonly resume: boolean; readonly overwrite: boolean },
): Promise<void> {
	try {
		await makeFolder(folder.root);
	} catch (error) {
		throw fileError(folder.root, 'make the folder of the run', error);
	}
	if (!resume) {
		const names: string[] = [];
		for (const name of await readdir(folder.root))
			if ((ours.includes(name) || name.startsWith('events.out.tfevents.')) && !(await isEmptyFolder(join(folder.root, name))))
				names.push(name);
		if (names.length > 0 && !overwrite) {
			throw new DiffusionPipeError('input', 'holds a run already', {
				place: folder.root,
				found: names.join(', '),
				hint: '--resume to go on with it, --output-dir DIR to begin elsewhere, or --overwrite to remove it',
			});
		}
		for (const name of names) await rm(join(folder.root, name), { recursive: true, force: true });
	}
	await makeFolder(folder.samples);
	await makeFolder(folder.checkpoints);
}
