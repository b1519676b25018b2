import fc from 'fast-check';
import { expect, test } from 'vitest';
import { draftPlan } from '../../../src/plan/draft.ts';
import { searchPlan } from '../../../src/plan/search/index.ts';
import { simulatePlan } from '../../../src/plan/search/simulate-plan.ts';
import { sampleBackbone, sampleCluster, sampleProfile } from '../../helpers/profiles.ts';
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

test('fillings of both kinds of iteration share what memory is left for frozen weights', () => {
	const [vae] = sampleProfile().frozen;
	const heavy = (name: string, count: number, scale: number) => {
		const [layer] = vae!.layers;
		const of = (i: number) => ({
			...{ ...layer!, name: `${name}.${i}`, paramBytes: 1e8 * (1 + i) },
			forwardMs: layer!.forwardMs.map((ms) => ms * scale * (1 + i / 3)),
		});
		return { name, after: [], layers: Array.from({ length: count }, (_, i) => of(i)) };
	};
	const profile = sampleProfile({
		backbones: [{ ...sampleBackbone(), selfConditioning: 0.5 }],
		frozen: [heavy('vae', 3, 3), heavy('text', 2, 1.5)],
	});
	const plan = (memoryBytes: number) => {
		const cluster = { ...sampleCluster, memoryBytes };
		// With GPipe every rank keeps as much, so that no device has room for everything.
		const draft = draftPlan(profile, cluster, 32, [[2, 4, 6]], { microBatches: 4, schedule: 'gpipe' });
		return simulatePlan(draft, profile, cluster, 0);
	};
	const [plain, swept] = [plan(16e9).timeline.peakBytes, plan(16e9).sweep!.timeline.peakBytes];
	const peaks = plain.map((bytes, rank) => Math.max(bytes, swept[rank]!));
	const methods = Array.from({ length: 6 }, (_, i) => {
		const memoryBytes = Math.max(...peaks) + (i + 5) * 1e8;
		const { plan: found, fill, sweep } = plan(memoryBytes);
		expect(found.selfConditioning!.fill.length).toBeGreaterThan(0);
		const here = new Map(
			[...fill.items, ...sweep!.fill.items].map((item) => [`${item.device} ${item.component} ${item.layer}`, item] as const),
		);
		const bytes = peaks.map((peak) => peak);
		for (const { device, layer } of here.values()) bytes[device]! += 1e8 * (1 + layer);
		for (const all of bytes) expect(all).toBeLessThanOrEqual(memoryBytes);
		return sweep!.fill.method;
	});
	expect(methods).toContain('carried over');
	expect(methods).not.toEqual(methods.map(() => 'carried over'));
});
