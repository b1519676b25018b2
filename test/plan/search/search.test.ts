import fc from 'fast-check';
import { expect, test } from 'vitest';
import { searchPlan } from '../../../src/plan/search/index.ts';
import { sampleCluster, sampleProfile } from '../../helpers/profiles.ts';
import { bruteForceMs, linearJob, profileOf } from './cases.ts';

test('without filling, the plan of one backbone equals brute force over all cuts and replica counts', () => {
	fc.assert(
		fc.property(linearJob, (job) => {
			const best = bruteForceMs(job);
			const run = () =>
				searchPlan(profileOf(job), job.cluster, job.microBatch * job.microBatches, {
					stages: job.stages,
					microBatches: job.microBatches,
					schedule: job.schedule,
					warmup: job.warmup,
					pipelines: 1,
					layout: 'pipelines',
					recompute: false,
					fill: false,
					baselines: false,
				});
			if (best === Number.POSITIVE_INFINITY) expect(run).toThrow(/no plan fits|larger than the memory/);
			else expect(Math.abs(run().plan.iterationMs / best - 1)).toBeLessThan(1e-9);
		}),
		{ numRuns: 300 },
	);
});

test('a schedule that cannot save a micro-batch in a small memory is passed over', () => {
	const { plan } = searchPlan(sampleProfile(), { ...sampleCluster, memoryBytes: 2.5e9 }, 32, {});
	expect(Math.max(...plan.peakBytes)).toBeLessThanOrEqual(2.5e9);
});
