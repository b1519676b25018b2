/** @file A division with what it is worth: its pipeline alone, what frozen work does to it, and the same once the filling is known. */
import { DiffusionPipeError } from '../../core/errors.ts';
import { fillBubbles } from '../fill/index.ts';
import { frozenWeights, refill } from '../fill/refill.ts';
import type { FillProblem, FillResult } from '../fill/types.ts';
import { simulatePipeline } from '../pipeline/simulate.ts';
import type { PipelineTimeline } from '../pipeline/types.ts';
import type { Division } from './divide.ts';
import { fillProblem, frozenMs, leastFrozenMs } from './frozen.ts';
import type { Job } from './job.ts';
import { pipelineOf } from './pipeline.ts';

export interface Candidate extends Division {
	/** The iteration with the extra sweep of self-conditioning, when any iteration has one. */
	readonly sweep?: { readonly probability: number; readonly timeline: PipelineTimeline };
	/** The pipeline alone, ms: expected over iterations with and without the sweep. */
	readonly pipelineMs: number;
	/** Device time of the pipeline per iteration, over the devices of one pipeline, ms. */
	readonly busyMs: number;
	/** No filling makes the iteration shorter than this, ms. Exact when nothing is filled. */
	readonly estimateMs: number;
}

/** A candidate with its frozen work in place. */
export interface Filled extends Candidate {
	readonly fill: FillResult;
	/** Of iterations with the sweep. */
	readonly sweepFill?: FillResult;
	readonly iterationMs: number;
	readonly boundMs: number;
	/** Device time of the frozen work, ms. */
	readonly frozenBusyMs: number;
}

/** What a division is worth before anything is filled in. */
export function candidateOf(job: Job, division: Division, fill: boolean): Candidate {
	const { shape, assignment, timeline } = division;
	const probability = job.profile.backbones[0]!.selfConditioning;
	const sweep = probability > 0 ? { probability, timeline: simulatePipeline(pipelineOf(job, shape, assignment, true)) } : undefined;
	const expected = (plain: number, swept: number) => (1 - probability) * plain + probability * swept;
	const pipelineMs = sweep ? expected(timeline.endMs, sweep.timeline.endMs) : timeline.endMs;
	const busyMs = sweep
		? expected(busyOf(timeline, assignment.replicas), busyOf(sweep.timeline, assignment.replicas))
		: busyOf(timeline, assignment.replicas);
	const frozen = leastFrozenMs(job.profile, job.batch / shape.pipelines);
	const estimateMs = fill
		? Math.max(pipelineMs, (busyMs + frozen) / shape.devices)
		: pipelineMs + frozenMs(job.profile, job.batch / (shape.pipelines * shape.devices));
	return { ...division, ...(sweep ? { sweep } : {}), pipelineMs, busyMs, estimateMs };
}

/** The candidate with its bubbles filled, or with the frozen work before the pipeline on all devices; undefined when frozen weights fit nowhere. */
export function fillCandidate(job: Job, candidate: Candidate, fill: boolean, effort: number): Filled | undefined {
	const { shape, assignment, timeline, sweep } = candidate;
	const { pipelines, devices } = shape;
	const none: FillResult = { items: [], moves: [], iterationMs: timeline.endMs, lowerBoundMs: candidate.lowerBoundMs, method: 'none' };
	if (!fill || job.profile.frozen.length === 0) {
		const before = frozenMs(job.profile, job.batch / (pipelines * devices));
		const iterationMs = candidate.pipelineMs + before;
		return { ...candidate, fill: none, iterationMs, boundMs: candidate.lowerBoundMs + before, frozenBusyMs: before * devices };
	}
	const peakBytes = timeline.peakBytes.map((bytes, rank) => Math.max(bytes, sweep?.timeline.peakBytes[rank] ?? 0));
	const problem = (each: PipelineTimeline) => fillProblem(job, shape, assignment, each, peakBytes);
	const filled = tryFill(problem(timeline), effort);
	const swept = filled && sweep && fillBeside(problem(sweep.timeline), filled, effort);
	if (!filled || (sweep && !swept)) return undefined;
	const weigh = (of: (result: FillResult) => number) =>
		swept ? (1 - sweep!.probability) * of(filled) + sweep!.probability * of(swept) : of(filled);
	return {
		...candidate,
		assignment,
		fill: filled,
		...(swept ? { sweepFill: swept } : {}),
		iterationMs: weigh((result) => result.iterationMs),
		boundMs: weigh((result) => result.lowerBoundMs),
		frozenBusyMs: weigh(({ items }) => items.reduce((sum, { startMs, endMs }) => sum + endMs - startMs, 0)),
	};
}

/** A filling beside another one, whose weights stay: of its own where those of both fit, otherwise the other one in this idle time. */
function fillBeside(problem: FillProblem, other: FillResult, effort: number): FillResult | undefined {
	const own = tryFill(problem, effort);
	const needed = own && frozenWeights(problem, [other.items, own.items]);
	const fits = needed?.every((bytes, device) => bytes <= (problem.freeBytes?.[device] ?? Number.POSITIVE_INFINITY));
	return own && !fits ? refill(problem, other.items) : own;
}

function tryFill(problem: FillProblem, effort: number): FillResult | undefined {
	try {
		return fillBubbles(problem, { effort });
	} catch (error) {
		// Frozen weights that fit nowhere beside the pipeline's: the shape is no plan, another may be.
		if (error instanceof DiffusionPipeError && error.kind === 'input') return undefined;
		throw error;
	}
}

/** Device time that computation takes, over the devices of one pipeline, ms. */
export function busyOf({ spans }: PipelineTimeline, replicas: readonly number[]): number {
	return spans.reduce((sum, rank, i) => sum + replicas[i]! * rank.reduce((n, { start, end }) => n + end - start, 0), 0);
}
