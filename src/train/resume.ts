/** @file What a run goes on from: the checkpoint asked for, as it was written, of the same config. */
import { resolve } from 'node:path';
import { DiffusionPipeError } from '../core/errors.ts';
import { listCheckpoints, namingEarlier, readVerifiedState, type TrainingState } from './checkpoint.ts';
import type { TrainConfig } from './config.ts';
import { configDifferences } from './config-difference.ts';
import type { RunFolder } from './run-folder.ts';

/** The checkpoint to go on from, or undefined for a new run (also when the newest of none was asked for). */
export async function findCheckpoint(
	folder: RunFolder,
	resume: string | true | undefined,
): Promise<{ path: string; state: TrainingState } | undefined> {
	if (resume === undefined) return undefined;
	const path = resume === true ? (await listCheckpoints(folder.checkpoints)).at(-1)?.path : resume;
	if (path === undefined) return undefined;
	return { path, state: await orEarlier(folder, path, readVerifiedState(path)) };
}

/** What `reading` the checkpoint in `path` gives; where that fails for the files in it, the error names the checkpoint before, which can be gone on from. */
export async function orEarlier<T>({ checkpoints }: RunFolder, path: string, reading: Promise<T>): Promise<T> {
	try {
		return await reading;
	} catch (error) {
		const all = await listCheckpoints(checkpoints);
		const at = all.findIndex((each) => resolve(each.path) === resolve(path));
		throw namingEarlier(error, all[at - 1]?.path);
	}
}

/** Throws a config error naming what differs from the config that the checkpoint in `path` was made with, and matters. */
export function refuseChanges(state: TrainingState, config: TrainConfig, path: string): void {
	const differences = configDifferences(state.config, config as unknown as Record<string, unknown>);
	if (differences.length === 0) return;
	throw new DiffusionPipeError('config', 'differs from the run that made the checkpoint', {
		place: path,
		found: differences.join('; '),
		hint: 'give the old values, or --allow-config-change to go on with the new ones',
	});
}
