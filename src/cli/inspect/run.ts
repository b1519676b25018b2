/** @file Describes the folder of a training run. */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { DiffusionPipeError } from '../../core/errors.ts';
import { newestCascadeSave } from '../../train/cascade/saves.ts';
import { listCheckpoints } from '../../train/checkpoint.ts';
import { runFolder } from '../../train/run-folder.ts';
import type { Description } from './index.ts';
import { describePipeline } from './pipeline.ts';

/** Describes the run in `path`: the steps saved, and the finished pipeline or else the newest checkpoint. */
export async function describeRun(path: string): Promise<Description> {
	const folder = runFolder(path);
	const save = await newestCascadeSave(path);
	// Those of a cascade are of both models, at the same steps.
	const checkpoints = await listCheckpoints(save ? dirname(save.paths.base) : folder.checkpoints);
	const finished = existsSync(join(folder.pipeline, 'model_index.json'));
	const newest = finished ? folder.pipeline : checkpoints.at(-1)?.path;
	if (newest === undefined) {
		throw new DiffusionPipeError('input', 'is a run that has saved nothing yet', { place: path, hint: 'wait for its first checkpoint' });
	}
	const model = await describePipeline(newest);
	const larger = save && !finished ? await describePipeline(save.paths.super_resolution) : undefined;
	const steps = checkpoints.map((c) => c.step);
	return {
		document: {
			kind: 'run',
			path,
			finished,
			checkpoints: steps,
			model: model.document,
			...(larger ? { super_resolution: larger.document } : {}),
		},
		lines: [
			`${path}: a ${finished ? 'finished' : 'not finished'} run, checkpoints of steps ${steps.join(', ') || '(none)'}`,
			'',
			...model.lines,
			...(larger ? ['', ...larger.lines] : []),
		],
	};
}
