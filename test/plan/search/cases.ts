/** Small random jobs, and the brute force they are compared with: its own sums of costs, the simulator for time. */
import fc from 'fast-check';
import { allReduceMs, transferMs } from '../../../src/plan/cluster/links.ts';
import type { Cluster } from '../../../src/plan/cluster/types.ts';
import { simulatePipeline } from '../../../src/plan/pipeline/simulate.ts';
import type { PipelineStage } from '../../../src/plan/pipeline/types.ts';
import { timeAt } from '../../../src/plan/profile/times.ts';
import type { FrozenLayer, Profile, TrainedLayer } from '../../../src/plan/profile/types.ts';
import { schedules } from '../../../src/plan/schedules/index.ts';
import type { WarmUp } from '../../../src/plan/schedules/types.ts';

export const batchSizes = [1, 2, 4, 8];

/** Times that grow with the batch, less than in proportion, as kernels' do. */
const times = fc
	.record({ base: fc.integer({ min: 0, max: 8 }), slope: fc.integer({ min: 1, max: 10 }) })
	.map(({ base, slope }) => batchSizes.map((n) => base + slope * n));

export const trainedLayer: fc.Arbitrary<Omit<TrainedLayer, 'name'>> = fc.record({
	forwardMs: times,
	backwardInputMs: times,
	backwardWeightMs: times,
	cutBytes: fc.integer({ min: 0, max: 2000 }),
	activationBytes: fc.integer({ min: 0, max: 500 }),
	paramBytes: fc.integer({ min: 0, max: 5000 }),
	gradBytes: fc.integer({ min: 0, max: 5000 }),
	updateMs: fc.integer({ min: 0, max: 5 }),
});

export const frozenLayer: fc.Arbitrary<Omit<FrozenLayer, 'name'>> = fc.record({
	forwardMs: times,
	outputBytes: fc.integer({ min: 0, max: 500 }),
	paramBytes: fc.integer({ min: 0, max: 2000 }),
});

export const cluster: fc.Arbitrary<Cluster> = fc.record({
	version: fc.constant(1 as const),
	hosts: fc.integer({ min: 1, max: 2 }),
	devicesPerHost: fc.integer({ min: 1, max: 2 }),
	memoryBytes: fc.constantFrom(60_000, 1e9),
	intra: fc.record({ latencyMs: fc.constantFrom(0, 0.5), bytesPerMs: fc.constantFrom(1000, 10_000) }),
	inter: fc.record({ latencyMs: fc.constantFrom(0, 1), bytesPerMs: fc.constantFrom(500, 2000) }),
});

/** A job of one backbone without frozen parts, with what is fixed of its plan. */
export const linearJob = fc
	.record({
		layers: fc.array(trainedLayer, { minLength: 1, maxLength: 8 }),
		cluster,
		stages: fc.integer({ min: 1, max: 4 }),
		microBatches: fc.constantFrom(1, 2, 4),
		microBatch: fc.constantFrom(1, 2, 4, 6),
		schedule: fc.constantFrom('1f1b', 'gpipe'),
		warmup: fc.constantFrom<WarmUp[]>('usual', 'deep'),
	})
	.filter(({ layers, cluster: { hosts, devicesPerHost }, stages }) => stages <= Math.min(hosts * devicesPerHost, layers.length));

export type LinearJob = typeof linearJob extends fc.Arbitrary<infer J> ? J : never;

export function profileOf({ layers }: Pick<LinearJob, 'layers'>): Profile {
	return {
		version: 1,
		name: 'random',
		batchSizes,
		backbones: [{ name: 'net', selfConditioning: 0, layers: layers.map((layer, i) => ({ name: `l${i}`, ...layer })) }],
		frozen: [],
	};
}

/** Every division into `parts` whole numbers of at least 1 that sum to `total`. */
export function compositions(total: number, parts: number): number[][] {
	if (parts === 1) return [[total]];
	return Array.from({ length: total - parts + 1 }, (_, i) => compositions(total - i - 1, parts - 1).map((rest) => [i + 1, ...rest])).flat();
}

/** The least simulated iteration over all cuts and all replica counts of one pipeline, Infinity when nothing fits. */
export function bruteForceMs(job: LinearJob): number {
	const devices = job.cluster.hosts * job.cluster.devicesPerHost;
	let best = Number.POSITIVE_INFINITY;
	for (const counts of compositions(job.layers.length, job.stages)) {
		for (const replicas of compositions(devices, job.stages)) {
			if (replicas.every((r) => job.microBatch % r === 0)) best = Math.min(best, divisionMs(job, counts, replicas));
		}
	}
	return best;
}

function divisionMs(job: LinearJob, counts: readonly number[], replicas: readonly number[]): number {
	const { layers, cluster: links, microBatch, microBatches, schedule, warmup } = job;
	const starts = counts.map((_, i) => counts.slice(0, i).reduce((a, b) => a + b, 0));
	const offsets = replicas.map((_, i) => replicas.slice(0, i).reduce((a, b) => a + b, 0));
	const stages = counts.map((count, s): PipelineStage => {
		const mine = layers.slice(starts[s], starts[s]! + count);
		const local = microBatch / replicas[s]!;
		const sum = (of: (layer: (typeof mine)[0]) => number) => mine.reduce((n, layer) => n + of(layer), 0);
		const bytes = s + 1 < counts.length ? mine.at(-1)!.cutBytes * microBatch : 0;
		const hop = s + 1 < counts.length ? hopMs(links, bytes, [offsets[s]!, replicas[s]!], [offsets[s + 1]!, replicas[s + 1]!]) : 0;
		const grads = sum((l) => l.gradBytes);
		return {
			rank: s,
			...(s + 1 < counts.length ? { next: s + 1 } : {}),
			forwardMs: sum((l) => timeAt(batchSizes, l.forwardMs, local)),
			backwardInputMs: sum((l) => timeAt(batchSizes, l.backwardInputMs, local)),
			backwardWeightMs: sum((l) => timeAt(batchSizes, l.backwardWeightMs, local)),
			hopForwardMs: hop,
			hopBackwardMs: hop,
			savedBytes: sum((l) => l.activationBytes * local),
			syncMs: allReduceMs(
				links,
				grads,
				Array.from({ length: replicas[s]! }, (_, i) => offsets[s]! + i),
			),
			updateMs: sum((l) => l.updateMs ?? 0),
			staticBytes: sum((l) => 3 * l.paramBytes + l.gradBytes),
		};
	});
	const rows = schedules[schedule]!({ stages: counts.length, microBatches, warmup });
	const timeline = simulatePipeline({ ranks: counts.length, stages, rows });
	return Math.max(...timeline.peakBytes) <= links.memoryBytes ? timeline.endMs : Number.POSITIVE_INFINITY;
}

/** Each sender's samples go to whoever needs them; the slowest pair decides. */
function hopMs(links: Cluster, bytes: number, [from, senders]: [number, number], [to, receivers]: [number, number]): number {
	let slowest = 0;
	for (let i = 0; i < senders; i++) {
		for (let j = 0; j < receivers; j++) {
			const share = Math.min((i + 1) / senders, (j + 1) / receivers) - Math.max(i / senders, j / receivers);
			if (share > 1e-12) slowest = Math.max(slowest, transferMs(links, bytes * share, from + i, to + j));
		}
	}
	return slowest;
}
