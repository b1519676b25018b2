/** @file The other ways of training the same job on the same devices, each at its best. A new baseline is one entry here. */
import { deviceCountOf } from '../../cluster/links.ts';
import type { Baseline } from '../../types.ts';
import type { Filled } from '../candidate.ts';
import { frozenMs } from '../frozen.ts';
import { createJob, type Job } from '../job.ts';
import { describeShape } from '../shape.ts';
import type { SearchOptions } from '../types.ts';
import { dataParallel } from './data-parallel.ts';
import { separateEncoders } from './separate-encoders.ts';

/** The search of the planner itself, for baselines that are pipelines. */
export type Search = (job: Job, options: SearchOptions) => readonly Filled[];

/** The baselines of a job, best first; those that do not fit last, with an infinite time. */
export function baselinesOf(job: Job, search: Search): readonly Baseline[] {
	const several = job.profile.backbones.length > 1;
	const unfilled = (name: string, schedule: string) =>
		pipeline(job, name, search(job, { schedule, warmup: 'usual', fill: false, minStages: 2 }));
	const baselines = [
		dataParallel(job, 0, 'data parallel'),
		dataParallel(job, 1, 'ZeRO-1'),
		dataParallel(job, 2, 'ZeRO-2'),
		dataParallel(job, 3, 'ZeRO-3'),
		...(several
			? [unfilled('bidirectional, not filled', 'bidirectional')]
			: [unfilled('GPipe, not filled', 'gpipe'), unfilled('1F1B, not filled', '1f1b')]),
		...(job.profile.frozen.length > 0 ? [separateEncoders(job), cachedEncoders(job, search)] : []),
	];
	return baselines.sort((a, b) => a.iterationMs - b.iterationMs);
}

/** What practitioners do: frozen outputs computed once and read from disk, where data are never augmented; then the best of pipelines and data parallel. */
function cachedEncoders(job: Job, search: Search): Baseline {
	const bare = createJob({ ...job.profile, frozen: [] }, job.cluster, job.batch);
	const choices = [
		dataParallel(bare, 0, 'data parallel'),
		dataParallel(bare, 1, 'ZeRO-1'),
		dataParallel(bare, 3, 'ZeRO-3'),
		pipeline(bare, 'pipeline', search(bare, { fill: false, ...(job.profile.backbones.length > 1 ? {} : { schedule: '1f1b' }) })),
	].sort((a, b) => a.iterationMs - b.iterationMs);
	const best = choices[0]!;
	const devices = deviceCountOf(job.cluster);
	const perThousand = frozenMs(job.profile, job.batch / devices) / job.batch;
	return {
		...best,
		name: 'cached encoders',
		detail: `${best.name}, ${best.detail}; before it ${perThousand.toPrecision(2)} s per 1000 images of caching`,
	};
}

function pipeline(job: Job, name: string, found: readonly Filled[]): Baseline {
	const best = found[0];
	if (!best)
		return { name, iterationMs: Number.POSITIVE_INFINITY, imagesPerSecond: 0, peakBytes: 0, fits: false, detail: 'does not fit in memory' };
	return {
		name,
		iterationMs: best.iterationMs,
		imagesPerSecond: (1000 * job.batch) / best.iterationMs,
		peakBytes: Math.max(...best.timeline.peakBytes),
		fits: true,
		detail: describeShape(best.shape),
	};
}
