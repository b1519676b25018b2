/** @file The planner: looks through the shapes of a job, divides, simulates and fills the promising ones, and returns the best as a plan. */
import { cached } from '../../core/cached.ts';
import type { Cluster } from '../cluster/types.ts';
import type { Profile } from '../profile/types.ts';
import { baselinesOf } from './baselines/index.ts';
import { type Candidate, candidateOf, type Filled, fillCandidate } from './candidate.ts';
import { checkJob, nothingFits } from './check.ts';
import { divide, type NoDivision } from './divide.ts';
import { frozenBytes } from './frozen.ts';
import { createJob, type Job } from './job.ts';
import { planOf, rowOf, sweepOf } from './result.ts';
import { type Assignment, microBatchOf, type Shape, stagesOf } from './shape.ts';
import { baseShapes, variantsOf } from './shapes.ts';
import type { SearchOptions, SearchResult } from './types.ts';

/** How many candidates go from one round of the search to the next. */
const rounds = { variants: 12, exact: 6, filled: 10, improved: 2, rows: 12 };
/** Parts of divisions looked into in the first round, and where a shape could still win. */
const nodes = { first: 50, exact: 20_000 };
/** Simulated actions of one exact division at most: what bounds its nodes where pipelines are long. */
const exactActions = 4e6;
/** Jobs with fewer base shapes than this are searched exactly throughout. */
const fewShapes = 6;

/**
 * The best plan for `profile` on `cluster` at a global batch of `batch` samples, with the alternatives that were looked at and the baselines.
 *
 * First every base shape is divided (by a few leaves of the exact search), then variants of the best are, then shapes that could still win are divided
 * exactly; the best of all are filled, and the fillings of the very best improved. Without filling the result is the best over all divisions of all base
 * shapes, unless the limit of nodes was met. Throws what `checkJob` throws, and an input error when nothing fits.
 */
export function searchPlan(profile: Profile, cluster: Cluster, batch: number, options: SearchOptions = {}): SearchResult {
	const job = createJob(profile, cluster, batch);
	checkJob(job, options);
	const filled = searchFilled(job, options);
	const best = filled[0];
	if (!best) throw nothingFits(job, options);
	const baselines = options.baselines === false ? [] : baselinesOf(job, searchFilled);
	const rows = distinct(filled)
		.slice(0, rounds.rows)
		.map((each) => rowOf(job, each));
	return { plan: planOf(job, best, baselines), timeline: best.timeline, fill: best.fill, ...sweepOf(best), rows, baselines };
}

/** All that was filled, best first; empty when nothing fits. */
export function searchFilled(job: Job, options: SearchOptions): readonly Filled[] {
	const fill = options.fill ?? true;
	const frozenWeights = frozenBytes(job.profile.frozen);
	const found = new Map<string, Candidate>();
	const bounds = new Map<string, number>();
	const boundOf = (shape: Shape) => cached(bounds, keyOf(shape), () => leastMs(job, shape));
	let bestMs = Number.POSITIVE_INFINITY;
	const look = (shape: Shape, nodeLimit: number, slack: number, start?: Assignment): NoDivision | undefined => {
		const key = keyOf(shape);
		const known = found.get(key);
		if (known && (known.proven || nodeLimit === nodes.first)) return undefined;
		// What is compared is the whole iteration: the pipeline may take what the best one takes with its frozen work.
		const worthMs = bestMs * slack;
		if (boundOf(shape) > worthMs) return 'slow';
		// Filled layers live where they run: on average a device's share; elsewhere every device holds them all.
		const reservedBytes = fill ? frozenWeights / shape.devices : frozenWeights;
		const limits = { reservedBytes, nodeLimit, ...(Number.isFinite(worthMs) && !known ? { worthMs } : {}) };
		const division = divide(job, shape, limits, start ?? known?.assignment);
		if (typeof division === 'string') return division;
		const candidate = candidateOf(job, division, fill);
		if (known && candidate.estimateMs >= known.estimateMs && !division.proven) return undefined;
		found.set(key, candidate);
		bestMs = Math.min(bestMs, candidate.estimateMs);
		return undefined;
	};
	const ranked = () => [...found.values()].sort((a, b) => a.estimateMs - b.estimateMs || a.pipelineMs - b.pipelineMs);

	const base = baseShapes(job, options).sort((a, b) => boundOf(a) - boundOf(b));
	// Running forwards twice pays only where memory forbids to run them once.
	const lookTwice = (shape: Shape, slack: number, start?: Assignment) => {
		if (look(shape, nodes.first, slack, start) === 'memory' && options.recompute === undefined)
			look({ ...shape, recompute: true }, nodes.first, slack, start);
	};
	for (const shape of base) lookTwice(shape, 1.3);
	for (const { shape, assignment } of ranked().slice(0, rounds.variants)) {
		for (const variant of variantsOf(shape, job, options)) lookTwice(variant, 1.2, assignment);
	}
	// A shape whose frozen work sets the pace gains nothing from a faster pipeline.
	const open = ranked().filter((c) => !c.proven && c.lowerBoundMs + (fill ? 0 : c.estimateMs - c.pipelineMs) < bestMs * (1 - 1e-9));
	const paced = open.filter(({ estimateMs, pipelineMs }) => !fill || estimateMs <= pipelineMs);
	for (const { shape } of base.length <= fewShapes ? paced : paced.slice(0, rounds.exact)) {
		look(shape, Math.max(nodes.first, Math.min(nodes.exact, exactActions / (2 * shape.microBatches * stagesOf(shape)))), 1.2);
	}

	const effort = options.effort ?? 1;
	const greedy = varied(ranked(), fill)
		.slice(0, rounds.filled)
		.flatMap((candidate) => fillCandidate(job, candidate, fill, 0) ?? [])
		.sort((a, b) => a.iterationMs - b.iterationMs);
	if (!fill || effort === 0) return greedy;
	const improved = greedy.slice(0, rounds.improved).map((each) => {
		const again = fillCandidate(job, each, fill, effort);
		return again && again.iterationMs < each.iterationMs ? again : each;
	});
	return [...improved, ...greedy.slice(rounds.improved)].sort((a, b) => a.iterationMs - b.iterationMs);
}

/**
 * A bound that needs no division. The work of a micro-batch is at least that of each layer at its cheapest share. Where backwards are whole, stage s has to wait
 * for a forward and a backward of each stage before it: T >= c_0 + .. + c_(s-1) + M c_s, so c_s <= (T / M) q^s with q = 1 - 1/M, and all work W = sum r_s c_s
 * (r_s >= 1 replicas, D in all) gives T >= M W / (D - S + M (1 - q^S)).
 */
function leastMs(job: Job, shape: Shape): number {
	const micro = microBatchOf(shape, job.batch);
	const shares = shape.devices === shape.ranks ? [1] : Array.from({ length: shape.devices - shape.ranks + 1 }, (_, i) => i + 1);
	let work = 0;
	job.profile.backbones.forEach((backbone, b) => {
		const costs = job.costs(b, shape.recompute);
		for (let at = 0; at < backbone.layers.length; at++) {
			let least = Number.POSITIVE_INFINITY;
			for (const share of shares) {
				const { forwardMs, backwardInputMs, backwardWeightMs } = costs.range(at, at + 1, micro / share);
				least = Math.min(least, share * (forwardMs + backwardInputMs + backwardWeightMs));
			}
			work += least;
		}
	});
	const { devices, ranks, microBatches: micros } = shape;
	const waits = wholeBackwards.has(shape.schedule) && shape.chunks === 1 && job.profile.backbones.length === 1;
	const spread = waits ? devices - ranks + micros * (1 - (1 - 1 / micros) ** ranks) : devices;
	return (work * micros) / spread;
}

function keyOf(shape: Shape): string {
	return Object.values(shape).join(' ');
}

/** Schedules in which a stage hands its gradient back when its whole backward is done. */
const wholeBackwards = new Set(['gpipe', '1f1b']);

/**
 * The candidates most worth filling: estimates that are within a percent of each other are alike until they are filled, and shorter pipelines pack better; no
 * number of stages takes more than three places.
 */
function varied(ranked: readonly Candidate[], fill: boolean): readonly Candidate[] {
	if (!fill) return ranked;
	const step = (ranked[0]?.estimateMs ?? 1) / 100;
	const level = ({ estimateMs }: Candidate) => Math.floor(estimateMs / step);
	const counts = new Map<number, number>();
	return [...ranked]
		.sort((a, b) => level(a) - level(b) || stagesOf(a.shape) - stagesOf(b.shape) || a.pipelineMs - b.pipelineMs)
		.filter(({ shape }) => {
			const count = (counts.get(stagesOf(shape)) ?? 0) + 1;
			counts.set(stagesOf(shape), count);
			return count <= 3;
		});
}

/** One entry for each number of stages, pipelines, micro-batches and schedule. */
function distinct(filled: readonly Filled[]): readonly Filled[] {
	const seen = new Set<string>();
	return filled.filter(({ shape }) => {
		const key = [shape.pipelines, stagesOf(shape), shape.microBatches, shape.schedule, shape.placement].join(' ');
		return !seen.has(key) && seen.add(key);
	});
}
