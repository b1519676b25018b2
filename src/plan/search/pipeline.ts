/** @file From a shape and an assignment to a pipeline in numbers: each stage's costs, the hops between them, the rows that run them. */
import type { Place } from '../cluster/places.ts';
import type { RangeCost } from '../partition/costs.ts';
import type { Pipeline, PipelineStage } from '../pipeline/types.ts';
import { placeSchedule } from '../schedules/index.ts';
import type { PlacedSchedule, ScheduleCosts } from '../schedules/types.ts';
import type { Job } from './job.ts';
import { type Assignment, microBatchOf, type Shape, stagesOf } from './shape.ts';

/** A stage of the schedule: layers [from, to) of a backbone, in training or in the extra sweep of self-conditioning. */
export interface StageLayers {
	readonly backbone: number;
	readonly from: number;
	readonly to: number;
	readonly sweep: boolean;
}

/** The devices of each rank, one after another. */
export function rankPlaces(replicas: readonly number[]): readonly Place[] {
	let offset = 0;
	return replicas.map((count) => {
		const place = { offset, count };
		offset += count;
		return place;
	});
}

/** The stages in the schedule's numbering: sweeps first, then backbone by backbone. */
export function stageLayers(assignment: Assignment, sweep: boolean): readonly StageLayers[] {
	const of = (isSweep: boolean) =>
		assignment.bounds.flatMap((bounds, backbone) =>
			bounds.slice(1).map((to, i): StageLayers => ({ backbone, from: bounds[i]!, to, sweep: isSweep })),
		);
	return sweep ? [...of(true), ...of(false)] : of(false);
}

/** The pipeline of one iteration, with or without the extra sweep of self-conditioning. Throws what `placeSchedule` throws. */
export function pipelineOf(job: Job, shape: Shape, assignment: Assignment, sweep = false): Pipeline {
	const layers = stageLayers(assignment, sweep);
	const micro = microBatchOf(shape, job.batch);
	const places = rankPlaces(assignment.replicas);
	const cluster = job.places(shape.layout, shape.pipelines, shape.devices);
	const rankOf = rankMap(shape, assignment, layers);
	const ranges = layers.map(({ backbone, from, to }, i) =>
		job.costs(backbone, shape.recompute).range(from, to, micro / assignment.replicas[rankOf[i]!]!),
	);
	const hop = (i: number): number => {
		const next = layers[i + 1];
		if (!next || next.backbone !== layers[i]!.backbone) return 0;
		const [a, b] = [places[rankOf[i]!]!, places[rankOf[i + 1]!]!];
		return a === b ? 0 : cluster.hopMs(hopBytes(job, shape, layers, rankOf, i) * micro, a, b);
	};
	const stages = layers.map(({ backbone, sweep: forwardOnly }, i): PipelineStage => {
		const range: RangeCost = ranges[i]!;
		const ms = hop(i);
		const linked = layers[i + 1]?.backbone === backbone;
		return {
			rank: rankOf[i]!,
			...(linked ? { next: i + 1 } : {}),
			...(forwardOnly ? { forwardOnly } : {}),
			forwardMs: range.forwardMs,
			backwardInputMs: forwardOnly ? 0 : range.backwardInputMs,
			backwardWeightMs: forwardOnly ? 0 : range.backwardWeightMs,
			hopForwardMs: ms,
			hopBackwardMs: forwardOnly ? 0 : ms,
			savedBytes: forwardOnly ? 0 : range.savedBytes,
			staticBytes: forwardOnly ? 0 : range.staticBytes,
			syncMs: forwardOnly ? 0 : cluster.syncMs(range.gradBytes, places[rankOf[i]!]!),
			updateMs: forwardOnly ? 0 : range.updateMs,
		};
	});
	return {
		ranks: shape.ranks,
		stages,
		rows: placedSchedule(shape, assignment.bounds.length, sweep, { stages, limitBytes: roomOf(job, shape.ranks, stages) }).rows,
	};
}

/** What each rank has left for saved values, bytes; nothing where its weights alone are too large, which the division's memory check finds. */
function roomOf(job: Job, ranks: number, stages: readonly PipelineStage[]): readonly number[] {
	const room = new Array<number>(ranks).fill(job.cluster.memoryBytes);
	for (const { rank, staticBytes } of stages) room[rank] = Math.max(0, room[rank]! - staticBytes);
	return room;
}

/** The rows of a shape. `costs`: for the schedules that are made from them. */
export function placedSchedule(shape: Shape, backbones: number, sweep: boolean, costs?: ScheduleCosts): PlacedSchedule {
	return placeSchedule(shape.schedule, {
		ranks: shape.ranks,
		microBatches: shape.microBatches,
		warmup: shape.warmup,
		placement: shape.placement,
		chunks: shape.chunks,
		backbones,
		selfConditioning: sweep,
		...(costs ? { costs } : {}),
	});
}

/** The rank of each stage: down for the first backbone, up for the second, and so on by turns; folded in the middle; round and round when interleaved. */
function rankMap(shape: Shape, { bounds }: Assignment, layers: readonly StageLayers[]): readonly number[] {
	const stages = stagesOf(shape);
	return layers.map(({ backbone, from }) => {
		const i = bounds[backbone]!.indexOf(from);
		if (backbone % 2 === 1) return shape.ranks - 1 - (i % shape.ranks);
		return shape.placement === 'folded' ? Math.min(i, stages - 1 - i) : i % shape.ranks;
	});
}

/** Bytes per sample that stage i hands to the next; skips whose two ends share a rank stay there. The sweep hands its result back to the start. */
function hopBytes(job: Job, shape: Shape, layers: readonly StageLayers[], rankOf: readonly number[], i: number): number {
	const { backbone, to, sweep } = layers[i]!;
	const { layers: chain } = job.profile.backbones[backbone]!;
	if (to === chain.length) return sweep ? chain[to - 1]!.cutBytes : 0;
	const costs = job.costs(backbone, shape.recompute);
	let bytes = costs.cutBytes(to);
	if (shape.placement !== 'folded') return bytes;
	layers.forEach((maker, a) => {
		if (maker.backbone !== backbone || maker.sweep !== sweep || maker.to > to) return;
		layers.forEach((user, b) => {
			if (user.backbone !== backbone || user.sweep !== sweep || user.from < to || rankOf[a] !== rankOf[b]) return;
			bytes -= costs.skipBytes([maker.from, maker.to], [user.from, user.to]);
		});
	});
	return Math.max(0, bytes);
}
