/** @file What every plan is, whatever the job: stages that join, devices used once, memory kept, fillings that an independent checker accepts. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { DiffusionPipeError } from '../../../src/core/errors.ts';
import type { Cluster } from '../../../src/plan/cluster/types.ts';
import { planDocument, readPlan } from '../../../src/plan/plan-json.ts';
import { readProfile } from '../../../src/plan/profile/read.ts';
import type { Profile } from '../../../src/plan/profile/types.ts';
import { parseSchedule } from '../../../src/plan/schedules/text.ts';
import { searchPlan } from '../../../src/plan/search/index.ts';
import { simulatePlan } from '../../../src/plan/search/simulate-plan.ts';
import type { SearchOptions } from '../../../src/plan/search/types.ts';
import { batchSizes, frozenLayer, trainedLayer } from './cases.ts';

const backbone = fc.array(trainedLayer, { minLength: 1, maxLength: 7 });
const component = fc.array(frozenLayer, { minLength: 1, maxLength: 4 });

const job = fc.record({
	backbones: fc.array(backbone, { minLength: 1, maxLength: 3 }),
	selfConditioning: fc.constantFrom(0, 0.5),
	skips: fc.boolean(),
	frozen: fc.array(component, { maxLength: 3 }),
	chained: fc.boolean(),
	cluster: fc.record({
		version: fc.constant(1 as const),
		hosts: fc.integer({ min: 1, max: 3 }),
		devicesPerHost: fc.integer({ min: 1, max: 4 }),
		memoryBytes: fc.constantFrom(40_000, 120_000, 1e9),
		intra: fc.constant({ latencyMs: 0.1, bytesPerMs: 10_000 }),
		inter: fc.constant({ latencyMs: 0.5, bytesPerMs: 1000 }),
	}),
	batch: fc.integer({ min: 1, max: 48 }),
	options: fc.constantFrom<SearchOptions[]>(
		{},
		{},
		{ fill: false },
		{ schedule: 'zero-bubble' },
		{ stages: 2 },
		{ placement: 'folded' },
		{ recompute: true },
	),
});

function profileOf(given: typeof job extends fc.Arbitrary<infer J> ? J : never): Profile {
	const profile = {
		version: 1,
		name: 'random',
		batchSizes,
		backbones: given.backbones.map((layers, b) => ({
			name: `net${b}`,
			selfConditioning: given.backbones.length > 1 ? 0 : given.selfConditioning,
			layers: layers.map((layer, i) => ({ name: `l${i}`, ...layer, ...(given.skips ? { cutBytes: layer.cutBytes + 300 } : {}) })),
			...(given.skips && layers.length > 2 ? { skips: [{ from: 0, to: layers.length - 1, bytes: 200 }] } : {}),
		})),
		frozen: given.frozen.map((layers, c) => ({
			name: `frozen${c}`,
			after: given.chained && c > 0 ? [`frozen${c - 1}`] : [],
			layers: layers.map((layer, i) => ({ name: `f${i}`, ...layer })),
		})),
	};
	return readProfile(profile);
}

test('stages join, devices are used once, memory suffices, frozen samples run once, JSON reads back, simulation agrees', () => {
	let planned = 0;
	fc.assert(
		fc.property(job, (given) => {
			const profile = profileOf(given);
			const cluster: Cluster = given.cluster;
			let result: ReturnType<typeof searchPlan>;
			try {
				result = searchPlan(profile, cluster, given.batch, given.options);
			} catch (error) {
				// A refusal names what is wrong; anything else is a fault.
				if (error instanceof DiffusionPipeError && (error.kind === 'input' || error.kind === 'config')) return;
				throw error;
			}
			planned++;
			const { plan } = result;
			const devices = cluster.hosts * cluster.devicesPerHost;
			for (const { name, layers } of profile.backbones) {
				const stages = plan.stages.filter((stage) => stage.backbone === name);
				expect(stages[0]!.layers[0]).toBe(0);
				expect(stages.at(-1)!.layers[1]).toBe(layers.length);
				for (const [i, stage] of stages.slice(1).entries()) expect(stage.layers[0]).toBe(stages[i]!.layers[1]);
				const used = new Set(stages.flatMap((stage) => stage.devices));
				expect([...used].sort((a, b) => a - b)).toEqual(Array.from({ length: devices }, (_, d) => d));
			}
			expect(Math.max(...plan.peakBytes)).toBeLessThanOrEqual(cluster.memoryBytes);
			expect(plan.lowerBoundMs).toBeLessThanOrEqual(plan.iterationMs * (1 + 1e-9));
			expect(plan.bubbleRatio.filled).toBeGreaterThanOrEqual(0);
			for (const fill of [plan.fill, plan.selfConditioning?.fill ?? []]) {
				if (fill.length === 0) continue;
				const counts = new Map<string, Uint8Array>();
				for (const { component: name, layer, samples } of fill) {
					const seen = counts.get(`${name} ${layer}`) ?? new Uint8Array(given.batch);
					counts.set(`${name} ${layer}`, seen);
					for (let s = samples[0]; s < samples[1]; s++) seen[s]!++;
				}
				expect(counts.size).toBe(profile.frozen.reduce((n, { layers }) => n + layers.length, 0));
				for (const seen of counts.values()) expect(seen.every((n) => n === 1)).toBe(true);
			}
			// The weights that either kind of iteration needs lie beside the pipeline all the time.
			const fillings = [...plan.fill, ...(plan.selfConditioning?.fill ?? [])];
			const weights = new Map(
				fillings.map(({ device, component: name, layer }) => [`${device} ${name} ${layer}`, { device, name, layer }]),
			);
			const bytes = new Array<number>(devices).fill(0);
			for (const { device, name, layer } of weights.values())
				bytes[device]! += profile.frozen.find((c) => c.name === name)!.layers[layer]!.paramBytes;
			for (const { device, peak } of result.timeline.peakBytes.flatMap((most, rank) =>
				plan.stages.find((stage) => stage.rank === rank)!.devices.map((d) => ({ device: d, peak: most })),
			))
				expect(peak + bytes[device]!).toBeLessThanOrEqual(cluster.memoryBytes);
			for (const row of plan.rows) parseSchedule(row);
			expect(readPlan(JSON.parse(JSON.stringify(planDocument(plan)))).iterationMs).toBe(plan.iterationMs);
			const again = simulatePlan(plan, profile, cluster);
			expect(Math.abs(again.plan.pipelineMs / plan.pipelineMs - 1)).toBeLessThan(1e-9);
		}),
		{ numRuns: 150 },
	);
	expect(planned).toBeGreaterThan(30);
}, 120_000);
