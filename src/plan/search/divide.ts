/** @file The division of a job for any shape: exact for one backbone on a linear pipeline, by local search from a balanced one elsewhere. */
import { DiffusionPipeError } from '../../core/errors.ts';
import { partitionChain } from '../partition/chain.ts';
import { refineCuts } from '../partition/refine.ts';
import { simulatePipeline } from '../pipeline/simulate.ts';
import type { PipelineTimeline } from '../pipeline/types.ts';
import type { Job } from './job.ts';
import { type DivideOptions, divideLinear } from './linear.ts';
import { pipelineOf } from './pipeline.ts';
import { type Assignment, microBatchOf, type Shape, stagesOf } from './shape.ts';

/** A division with its simulated iteration. */
export interface Division {
	readonly shape: Shape;
	readonly assignment: Assignment;
	readonly timeline: PipelineTimeline;
	/** No division of this shape takes less. */
	readonly lowerBoundMs: number;
	/** True when a longer search of this shape's divisions finds nothing better. */
	readonly proven: boolean;
}

/** Schedules whose rows follow from counts alone, so that a division can be searched exactly. */
const fixedRows = new Set(['gpipe', '1f1b']);

/** Why a shape has no division: none fits in memory, or none is faster than what was asked for. */
export type NoDivision = 'memory' | 'slow';

/** The best division found for `shape`. Local search starts from `start` where it is given. */
export function divide(job: Job, shape: Shape, options: DivideOptions, start?: Assignment): Division | NoDivision {
	if (stagesOf(shape) > Math.min(...job.profile.backbones.map((b) => b.layers.length))) return 'slow';
	if (job.profile.backbones.length === 1 && shape.chunks === 1 && fixedRows.has(shape.schedule)) {
		const answer = divideLinear(job, shape, options);
		if (typeof answer === 'string') return answer;
		const assignment = { bounds: [answer.bounds], replicas: answer.replicas };
		return {
			shape,
			assignment,
			timeline: simulatePipeline(pipelineOf(job, shape, assignment)),
			lowerBoundMs: answer.lowerBoundMs,
			proven: answer.proven,
		};
	}
	return divideByRefining(job, shape, options, start);
}

/** Rows made anew from costs, and simulated, take as long as so many nodes of the exact search. */
const nodesPerEvaluation = 400;

/** What local search compares: first that it fits, then time. */
interface Tried {
	readonly timeline: PipelineTimeline;
	readonly excessBytes: number;
}

/** From the best division of the same shape under 1F1B where there is one, else from equal shares of work; equal replicas. */
function divideByRefining(job: Job, shape: Shape, options: DivideOptions, given: Assignment | undefined): Division | NoDivision {
	const replicas = shape.devices / shape.ranks;
	if (!Number.isInteger(replicas) || microBatchOf(shape, job.batch) % replicas !== 0) return 'slow';
	const limit = job.cluster.memoryBytes - options.reservedBytes;
	const counts = new Array<number>(shape.ranks).fill(replicas);
	const evaluate = (bounds: Assignment['bounds']): Tried => {
		const timeline = simulatedOrNothing(job, shape, { bounds, replicas: counts });
		if (!timeline)
			return {
				timeline: { endMs: Number.POSITIVE_INFINITY, spans: [], transfers: [], peakBytes: [] },
				excessBytes: Number.POSITIVE_INFINITY,
			};
		return { timeline, excessBytes: Math.max(0, ...timeline.peakBytes.map((bytes) => bytes - limit)) };
	};
	const better = (a: Tried, b: Tried) =>
		a.excessBytes < b.excessBytes || (a.excessBytes === b.excessBytes && a.timeline.endMs < b.timeline.endMs * (1 - 1e-9));
	const fits = given?.replicas.every((r) => r === replicas) && given.bounds.every((b) => b.length === stagesOf(shape) + 1);
	const first = given && fits ? given.bounds : balancedBounds(job, shape, replicas);
	const evaluations = Math.max(1, Math.min(200, Math.floor(options.nodeLimit / nodesPerEvaluation)));
	const { bounds, value } = refineCuts(first, evaluate, better, evaluations);
	if (value.excessBytes > 0) return 'memory';
	if (value.timeline.endMs >= (options.worthMs ?? Number.POSITIVE_INFINITY)) return 'slow';
	return {
		shape,
		assignment: { bounds, replicas: counts },
		timeline: value.timeline,
		lowerBoundMs: meanRankMs(value.timeline),
		proven: false,
	};
}

/** Undefined where the schedule cannot be made: one micro-batch is more than a rank can save. */
function simulatedOrNothing(job: Job, shape: Shape, assignment: Assignment): PipelineTimeline | undefined {
	try {
		return simulatePipeline(pipelineOf(job, shape, assignment));
	} catch (error) {
		if (error instanceof DiffusionPipeError && error.kind === 'input') return undefined;
		throw error;
	}
}

function balancedBounds(job: Job, shape: Shape, replicas: number): Assignment['bounds'] {
	const local = microBatchOf(shape, job.batch) / replicas;
	return job.profile.backbones.map((backbone, i) => {
		const costs = job.costs(i, shape.recompute);
		const layerMs = backbone.layers.map((_, at) => {
			const { forwardMs, backwardInputMs, backwardWeightMs } = costs.range(at, at + 1, local);
			return forwardMs + backwardInputMs + backwardWeightMs;
		});
		const { stages } = partitionChain({ layerMs, stages: stagesOf(shape) });
		return [0, ...stages.map(({ to }) => to)];
	});
}

function meanRankMs({ spans }: PipelineTimeline): number {
	const total = spans.reduce((sum, rank) => sum + rank.reduce((n, { start, end }) => n + end - start, 0), 0);
	return total / spans.length;
}
