/** @file Small random jobs for `bench planner`, and brute force over all their divisions under the simulator: costs are summed here, apart from the planner. */
import { allReduceMs, transferMs } from '../../dist/plan/cluster/links.js';
import { simulatePipeline } from '../../dist/plan/pipeline/simulate.js';
import { timeAt } from '../../dist/plan/profile/times.js';
import { schedules } from '../../dist/plan/schedules/index.js';

const batchSizes = [1, 2, 4, 8];

/** Whole numbers below `n`, one after another, from a seed (a linear congruential generator: the cases need no better). */
export function numbers(seed) {
	let state = seed >>> 0;
	return (n) => {
		state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
		return Math.floor((state / 2 ** 32) * n);
	};
}

/** A job of one backbone of up to 8 layers on up to 4 devices, with everything but its division fixed. */
export function linearCase(seed) {
	const below = numbers(seed);
	const times = () => {
		const [base, slope] = [below(9), 1 + below(10)];
		return batchSizes.map((n) => base + slope * n);
	};
	const cluster = {
		version: 1,
		hosts: 1 + below(2),
		devicesPerHost: 1 + below(2),
		memoryBytes: 1e9,
		intra: { latencyMs: below(2) / 2, bytesPerMs: 1000 * (1 + below(9)) },
		inter: { latencyMs: below(2), bytesPerMs: 500 * (1 + below(4)) },
	};
	const devices = cluster.hosts * cluster.devicesPerHost;
	const stages = 1 + below(devices);
	const layers = Array.from({ length: stages + below(9 - stages) }, (_, i) => ({
		name: `l${i}`,
		forwardMs: times(),
		backwardInputMs: times(),
		backwardWeightMs: times(),
		cutBytes: below(2000),
		activationBytes: below(500),
		paramBytes: below(5000),
		gradBytes: below(5000),
		updateMs: below(6),
	}));
	const microBatches = 2 ** below(3);
	const microBatch = [1, 2, 4, 6][below(4)];
	return { cluster, layers, stages, microBatches, microBatch, schedule: ['1f1b', 'gpipe'][below(2)], warmup: ['usual', 'deep'][below(2)] };
}

export function profileOfCase({ layers }) {
	return { version: 1, name: 'random', batchSizes, backbones: [{ name: 'net', selfConditioning: 0, layers }], frozen: [] };
}

function compositions(total, parts) {
	if (parts === 1) return [[total]];
	return Array.from({ length: total - parts + 1 }, (_, i) => compositions(total - i - 1, parts - 1).map((rest) => [i + 1, ...rest])).flat();
}

/** The least simulated iteration over all cuts and replica counts of one pipeline. */
export function bruteForceMs(job) {
	const devices = job.cluster.hosts * job.cluster.devicesPerHost;
	let best = Number.POSITIVE_INFINITY;
	for (const counts of compositions(job.layers.length, job.stages)) {
		for (const replicas of compositions(devices, job.stages)) {
			if (replicas.every((r) => job.microBatch % r === 0)) best = Math.min(best, divisionMs(job, counts, replicas));
		}
	}
	return best;
}

const before = (list) => list.map((_, i) => list.slice(0, i).reduce((a, b) => a + b, 0));

function divisionMs({ layers, cluster, microBatch, microBatches, schedule, warmup }, counts, replicas) {
	const [starts, offsets] = [before(counts), before(replicas)];
	const stages = counts.map((count, s) => {
		const mine = layers.slice(starts[s], starts[s] + count);
		const sum = (of) => mine.reduce((n, layer) => n + of(layer), 0);
		const ms = (key) => sum((layer) => timeAt(batchSizes, layer[key], microBatch / replicas[s]));
		const last = s + 1 === counts.length;
		const bytes = mine.at(-1).cutBytes * microBatch;
		const hop = last ? 0 : hopMs(cluster, bytes, [offsets[s], replicas[s]], [offsets[s + 1], replicas[s + 1]]);
		const devices = Array.from({ length: replicas[s] }, (_, i) => offsets[s] + i);
		return {
			rank: s,
			...(last ? {} : { next: s + 1 }),
			forwardMs: ms('forwardMs'),
			backwardInputMs: ms('backwardInputMs'),
			backwardWeightMs: ms('backwardWeightMs'),
			hopForwardMs: hop,
			hopBackwardMs: hop,
			savedBytes: 0,
			staticBytes: 0,
			syncMs: allReduceMs(
				cluster,
				sum((layer) => layer.gradBytes),
				devices,
			),
			updateMs: sum((layer) => layer.updateMs),
		};
	});
	return simulatePipeline({ ranks: counts.length, stages, rows: schedules[schedule]({ stages: counts.length, microBatches, warmup }) })
		.endMs;
}

function hopMs(cluster, bytes, [from, senders], [to, receivers]) {
	let slowest = 0;
	for (let i = 0; i < senders; i++) {
		for (let j = 0; j < receivers; j++) {
			const share = Math.min((i + 1) / senders, (j + 1) / receivers) - Math.max(i / senders, j / receivers);
			if (share > 1e-12) slowest = Math.max(slowest, transferMs(cluster, bytes * share, from + i, to + j));
		}
	}
	return slowest;
}
