/** @file From a filled candidate to the plan that is written, and to a row of the table. */
import type { FillResult } from '../fill/types.ts';
import type { PipelineTimeline } from '../pipeline/types.ts';
import { formatAction } from '../schedules/text.ts';
import type { Baseline, Plan, PlanStage } from '../types.ts';
import { busyOf, type Filled } from './candidate.ts';
import type { Job } from './job.ts';
import { pipelineOf, rankPlaces, stageLayers } from './pipeline.ts';
import { stagesOf } from './shape.ts';
import type { SearchResult, SearchRow } from './types.ts';

/** The plan, with device numbers and samples over all pipelines. */
export function planOf(job: Job, best: Filled, baselines: readonly Baseline[]): Plan {
	const { shape, assignment, timeline, fill, iterationMs, pipelineMs } = best;
	const pipeline = pipelineOf(job, shape, assignment);
	const cluster = job.places(shape.layout, shape.pipelines, shape.devices);
	const places = rankPlaces(assignment.replicas);
	const everyPipeline = Array.from({ length: shape.pipelines }, (_, p) => p);
	const stages = stageLayers(assignment, false).map(({ backbone, from, to }, i): PlanStage => {
		const stage = pipeline.stages[i]!;
		return {
			backbone: job.profile.backbones[backbone]!.name,
			layers: [from, to],
			devices: everyPipeline.flatMap((p) => cluster.devices(places[stage.rank]!, p)),
			rank: stage.rank,
			replicas: assignment.replicas[stage.rank]!,
			forwardMs: stage.forwardMs,
			backwardMs: stage.backwardInputMs + stage.backwardWeightMs,
			syncMs: stage.syncMs,
		};
	});
	const samples = job.batch / shape.pipelines;
	const numbers = everyPipeline.map((p) => places.flatMap((place) => cluster.devices(place, p)));
	const spread = ({ items, moves }: FillResult) => ({
		fill: everyPipeline.flatMap((p) =>
			items.map((item) => ({ ...item, device: numbers[p]![item.device]!, samples: shifted(item.samples, p * samples) })),
		),
		moves: everyPipeline.flatMap((p) =>
			moves.map((move) => ({
				...move,
				from: numbers[p]![move.from]!,
				to: numbers[p]![move.to]!,
				samples: shifted(move.samples, p * samples),
			})),
		),
	});
	return {
		version: 1,
		profile: job.profile.name,
		batch: job.batch,
		devices: shape.pipelines * shape.devices,
		pipelines: shape.pipelines,
		ranks: shape.ranks,
		microBatches: shape.microBatches,
		schedule: shape.schedule,
		warmup: shape.warmup,
		placement: shape.placement,
		layout: shape.layout,
		recompute: shape.recompute,
		stages,
		iterationMs,
		lowerBoundMs: Math.min(best.boundMs, iterationMs),
		pipelineMs,
		frozenMs: fill.method === 'none' ? iterationMs - pipelineMs : 0,
		imagesPerSecond: (1000 * job.batch) / iterationMs,
		bubbleRatio: ratiosOf(best),
		peakBytes: places.flatMap(({ count }, rank) => new Array<number>(count).fill(timeline.peakBytes[rank]!)),
		...spread(fill),
		rows: pipeline.rows.map((row) => row.map(formatAction).join(',')),
		...(best.sweep
			? {
					selfConditioning: {
						probability: best.sweep.probability,
						iterationMs: sweptMs(best, best.sweep.timeline),
						rows: pipelineOf(job, shape, assignment, true).rows.map((row) => row.map(formatAction).join(',')),
						...(best.sweepFill ? spread(best.sweepFill) : { fill: [], moves: [] }),
					},
				}
			: {}),
		baselines,
	};
}

/** An iteration with the extra sweep and the frozen work in it or before it, ms. */
function sweptMs({ sweepFill, iterationMs, pipelineMs }: Filled, { endMs }: PipelineTimeline): number {
	return sweepFill?.iterationMs ?? endMs + iterationMs - pipelineMs;
}

/** What a candidate predicts of iterations with the extra sweep. */
export function sweepOf(best: Filled): Pick<SearchResult, 'sweep'> {
	if (!best.sweep) return {};
	const { timeline } = best.sweep;
	const none = { items: [], moves: [], iterationMs: sweptMs(best, timeline), lowerBoundMs: timeline.endMs, method: 'none' };
	return { sweep: { timeline, fill: best.sweepFill ?? none } };
}

/** A row of the table of alternatives. */
export function rowOf(job: Job, each: Filled): SearchRow {
	const { shape, assignment, timeline, iterationMs, boundMs } = each;
	return {
		ranks: shape.ranks,
		stages: stagesOf(shape),
		pipelines: shape.pipelines,
		microBatches: shape.microBatches,
		schedule: shape.schedule,
		warmup: shape.warmup,
		placement: shape.placement,
		layout: shape.layout,
		recompute: shape.recompute,
		replicas: assignment.replicas,
		iterationMs,
		imagesPerSecond: (1000 * job.batch) / iterationMs,
		...ratiosOf(each),
		peakBytes: Math.max(...timeline.peakBytes),
		lowerBoundMs: Math.min(boundMs, iterationMs),
	};
}

/** Bubbles of the pipeline alone, and of the whole iteration with the frozen work in it, as shares of device time. */
export function ratiosOf({ shape, assignment, timeline, busyMs, frozenBusyMs, iterationMs }: Filled): { unfilled: number; filled: number } {
	return {
		unfilled: 1 - busyOf(timeline, assignment.replicas) / (shape.devices * timeline.endMs),
		filled: Math.max(0, 1 - (busyMs + frozenBusyMs) / (shape.devices * iterationMs)),
	};
}

function shifted([from, to]: readonly [number, number], by: number): readonly [number, number] {
	return [from + by, to + by];
}
