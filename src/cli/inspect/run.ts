/** @file Describes the folder of a training run. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { DiffusionPipeError } from '../../core/errors.ts';
import { listCheckpoints } from '../../train/checkpoint.ts';
import { runFolder } from '../../train/run-folder.ts';
import type { Description } from './index.ts';
import { describePipeline } from './pipeline.ts';

/** Describes the run in `path`: the steps saved, and the finished pipeline or else the newest checkpoint. */
export async function describeRun(path: string): Promise<Description> {
	const folder = runFolder(path);
	const checkpoints = await listCheckpoints(folder.checkpoints);
	const finished = existsSync(join(folder.pipeline, 'model_index.json'));
	const newest = finished ? folder.pipeline : checkpoints.at(-1)?.path;
	if (newest === undefined) {
		throw new DiffusionPipeError('input', 'is a run that has saved nothing yet', { place: path, hint: 'wait for its first checkpoint' });
	}
	const model = await describePipeline(newest);
	const steps = checkpoints.map((c) => c.step);
	return {
		document: { kind: 'run', path, finished, checkpoints: steps, model: model.document },
		lines: [
			`${path}: a ${finished ? 'finished' : 'not finished'} run, checkpoints of steps ${steps.join(', ') || '(none)'}`,
			'',
			...model.lines,
		],
	};
}
