import fc from 'fast-check';
import { expect, test } from 'vitest';
import { exactLinear, type LinearProblem } from '../../../src/plan/partition/exact.ts';
import { simulatePipeline } from '../../../src/plan/pipeline/simulate.ts';
import type { PipelineStage } from '../../../src/plan/pipeline/types.ts';
import { schedules } from '../../../src/plan/schedules/index.ts';

/** A chain of random layers over a few devices, as numbers. */
interface Case {
	readonly layers: readonly { f: number; bi: number; bw: number; cut: number; grad: number; saved: number }[];
	readonly ranks: number;
	readonly devices: number;
	readonly micros: number;
	readonly limit: number;
	readonly schedule: '1f1b' | 'gpipe';
	readonly warmup: 'usual' | 'deep';
}

const layer = fc.record({
	f: fc.integer({ min: 1, max: 20 }),
	bi: fc.integer({ min: 0, max: 20 }),
	bw: fc.integer({ min: 0, max: 20 }),
	cut: fc.integer({ min: 0, max: 12 }),
	grad: fc.integer({ min: 0, max: 60 }),
	saved: fc.integer({ min: 0, max: 9 }),
});

const anyCase: fc.Arbitrary<Case> = fc
	.record({
		layers: fc.array(layer, { minLength: 1, maxLength: 8 }),
		ranks: fc.integer({ min: 1, max: 4 }),
		devices: fc.integer({ min: 1, max: 4 }),
		micros: fc.integer({ min: 1, max: 6 }),
		limit: fc.constantFrom(60, 120, Number.POSITIVE_INFINITY),
		schedule: fc.constantFrom('1f1b', 'gpipe'),
		warmup: fc.constantFrom('usual', 'deep'),
	})
	.filter(({ layers, ranks, devices }) => ranks <= Math.min(devices, layers.length));

function stageOf({ layers }: Case, from: number, to: number, replicas: number) {
	const sum = (key: keyof Case['layers'][0]) => layers.slice(from, to).reduce((n, l) => n + l[key], 0);
	return {
		forwardMs: sum('f') / replicas,
		backwardInputMs: sum('bi') / replicas,
		backwardWeightMs: sum('bw') / replicas,
		savedBytes: sum('saved') / replicas,
		syncMs: replicas === 1 ? 0 : (2 * sum('grad') * (replicas - 1)) / replicas,
	};
}

function hopOf({ layers }: Case, at: number, replicas: number, next: number): number {
	return layers[at - 1]!.cut / Math.max(replicas, next);
}

function simulated(given: Case, bounds: readonly number[], replicas: readonly number[]): number {
	const { ranks, micros, schedule, warmup, limit } = given;
	const stages = replicas.map((r, rank): PipelineStage => {
		const hop = rank + 1 < ranks ? hopOf(given, bounds[rank + 1]!, r, replicas[rank + 1]!) : 0;
		return {
			rank,
			...(rank + 1 < ranks ? { next: rank + 1 } : {}),
			...stageOf(given, bounds[rank]!, bounds[rank + 1]!, r),
			hopForwardMs: hop,
			hopBackwardMs: hop,
			updateMs: 0,
			staticBytes: 0,
		};
	});
	const timeline = simulatePipeline({ ranks, stages, rows: schedules[schedule]!({ stages: ranks, microBatches: micros, warmup }) });
	return Math.max(...timeline.peakBytes) <= limit ? timeline.endMs : Number.POSITIVE_INFINITY;
}

/** Every division into `parts` numbers of at least 1 that sum to `total`. */
function compositions(total: number, parts: number): number[][] {
	if (parts === 1) return [[total]];
	return Array.from({ length: total - parts + 1 }, (_, i) => compositions(total - i - 1, parts - 1).map((rest) => [i + 1, ...rest])).flat();
}

function bruteForce(given: Case): number {
	let best = Number.POSITIVE_INFINITY;
	for (const counts of compositions(given.layers.length, given.ranks)) {
		const bounds = [0, ...counts.map((_, i) => counts.slice(0, i + 1).reduce((a, b) => a + b, 0))];
		for (const replicas of compositions(given.devices, given.ranks)) best = Math.min(best, simulated(given, bounds, replicas));
	}
	return best;
}

function problemOf(given: Case, nodeLimit = 1e6): LinearProblem {
	const { layers, ranks, devices, micros } = given;
	return {
		layers: layers.length,
		ranks,
		devices,
		microBatches: micros,
		replicaChoices: [1, 2, 3, 4],
		split: false,
		range: (from, to, replicas) => stageOf(given, from, to, replicas),
		tailMs: (from, to, _offset, replicas) => stageOf(given, from, to, replicas).syncMs,
		fits: () => true,
		hopMs: (at, _offset, replicas, next) => hopOf(given, at, replicas, next),
		simulate: (bounds, replicas) => simulated(given, bounds, replicas),
		nodeLimit,
	};
}

test('equals brute force over all cuts and replica counts under the simulator', () => {
	fc.assert(
		fc.property(anyCase, (given) => {
			const answer = exactLinear(problemOf(given));
			const best = bruteForce(given);
			expect(typeof answer === 'string' ? Number.POSITIVE_INFINITY : answer.ms).toBeCloseTo(best, 6);
			if (typeof answer !== 'string') {
				expect(answer.proven).toBe(true);
				expect(simulated(given, answer.bounds, answer.replicas)).toBe(answer.ms);
				expect(answer.bounds.length - 1).toBe(given.ranks);
				expect(answer.replicas.reduce((a, b) => a + b)).toBe(given.devices);
			}
		}),
		{ numRuns: 300 },
	);
});

test('a limit of nodes gives a division with an honest bound', () => {
	fc.assert(
		fc.property(anyCase, (given) => {
			const answer = exactLinear(problemOf({ ...given, limit: Number.POSITIVE_INFINITY }, given.ranks + 1));
			if (typeof answer === 'string') throw new Error(answer);
			expect(answer.lowerBoundMs).toBeLessThanOrEqual(bruteForce({ ...given, limit: Number.POSITIVE_INFINITY }) + 1e-9);
			expect(answer.ms).toBeGreaterThanOrEqual(answer.lowerBoundMs);
		}),
		{ numRuns: 100 },
	);
});

// Two equal halves would take 27: the second stage may be shorter, since the first also waits for it at both ends.
test('what is slower than wanted is not looked for', () => {
	const given: Case = {
		layers: Array.from({ length: 6 }, () => ({ f: 1, bi: 1, bw: 1, cut: 0, grad: 0, saved: 0 })),
		ranks: 2,
		devices: 2,
		micros: 2,
		limit: Number.POSITIVE_INFINITY,
		schedule: '1f1b',
		warmup: 'usual',
	};
	expect(exactLinear(problemOf(given))).toMatchObject({ bounds: [0, 4, 6], replicas: [1, 1], ms: 26, lowerBoundMs: 26, proven: true });
	expect(exactLinear({ ...problemOf(given), worthMs: 26 })).toBe('slow');
	expect(exactLinear({ ...problemOf(given), worthMs: 27 })).toMatchObject({ ms: 26 });
});
