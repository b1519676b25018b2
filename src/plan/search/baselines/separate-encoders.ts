/** @file Encoders on devices of their own as a baseline: some devices of every host run nothing else, one iteration ahead of the rest. */
import type { Baseline } from '../../types.ts';
import { frozenMs } from '../frozen.ts';
import { createJob, type Job } from '../job.ts';
import { dataParallel } from './data-parallel.ts';

/** The best number of encoder devices per host, the others training data-parallel; the slower of the two sides sets the pace. */
export function separateEncoders(job: Job): Baseline {
	const { cluster, profile, batch } = job;
	let best: Baseline | undefined;
	for (let encoders = 1; encoders < cluster.devicesPerHost; encoders++) {
		const training = createJob({ ...profile, frozen: [] }, { ...cluster, devicesPerHost: cluster.devicesPerHost - encoders }, batch);
		const trained = dataParallel(training, 0, 'encoders on devices of their own');
		const iterationMs = Math.max(trained.iterationMs, frozenMs(profile, batch / (cluster.hosts * encoders)));
		if (best && best.iterationMs <= iterationMs) continue;
		const detail = `${encoders} of ${cluster.devicesPerHost} devices per host encode; ${trained.detail}`;
		best = { ...trained, iterationMs, imagesPerSecond: trained.fits ? (1000 * batch) / iterationMs : 0, detail };
	}
	return (
		best ?? {
			name: 'encoders on devices of their own',
			iterationMs: Number.POSITIVE_INFINITY,
			imagesPerSecond: 0,
			peakBytes: 0,
			fits: false,
			detail: 'needs two devices per host',
		}
	);
}
