/** @file The exact division of a job's one backbone over a linear pipeline, as the schedule's simulated time and memory have it. */
import type { Place } from '../cluster/places.ts';
import { alongLines } from '../cluster/places.ts';
import { exactLinear, type LinearAnswer, type LinearRange } from '../partition/exact.ts';
import { simulatePipeline } from '../pipeline/simulate.ts';
import type { Schedule } from '../schedules/types.ts';
import type { Job } from './job.ts';
import { pipelineOf, placedSchedule } from './pipeline.ts';
import { microBatchOf, type Shape } from './shape.ts';

export interface DivideOptions {
	/** Bytes that each device keeps for other things, such as frozen weights. */
	readonly reservedBytes: number;
	readonly nodeLimit: number;
	readonly worthMs?: number;
}

/**
 * The best division of the first backbone over `shape`'s ranks, unequal replicas included; undefined when none fits or is faster than `worthMs`.
 * Replica counts that divide no micro-batch into whole samples are left out.
 */
export function divideLinear(job: Job, shape: Shape, { reservedBytes, nodeLimit, worthMs }: DivideOptions): LinearAnswer | undefined {
	const costs = job.costs(0, shape.recompute);
	const micro = microBatchOf(shape, job.batch);
	const cluster = job.places(shape.layout, shape.pipelines, shape.devices);
	const { rows } = placedSchedule(shape, 1, false);
	const held = mostHeld(rows, shape.ranks);
	const split = rows.some((row) => row.some(({ kind }) => kind === 'W'));
	const limit = job.cluster.memoryBytes - reservedBytes;
	const replicaChoices = Array.from({ length: shape.devices - shape.ranks + 1 }, (_, i) => i + 1).filter((r) => micro % r === 0);
	const ranges = new Map<number, LinearRange>();
	const hops = new Map<number, ReturnType<typeof cluster.hopLines>>();
	const { layers } = costs;
	return exactLinear({
		layers,
		ranks: shape.ranks,
		devices: shape.devices,
		microBatches: shape.microBatches,
		replicaChoices,
		range: (from, to, rank, offset, replicas) => {
			const key = (((from * (layers + 1) + to) * shape.ranks + rank) * (shape.devices + 1) + offset) * (shape.devices + 1) + replicas;
			let known = ranges.get(key);
			if (!known) {
				const range = costs.range(from, to, micro / replicas);
				const workMs = range.forwardMs + range.backwardInputMs + range.backwardWeightMs;
				known = {
					forwardMs: range.forwardMs,
					gradientMs: range.backwardInputMs + (split ? 0 : range.backwardWeightMs),
					workMs,
					tailMs: cluster.syncMs(range.gradBytes, { offset, count: replicas }) + range.updateMs,
					fits: range.staticBytes + held[rank]! * range.savedBytes <= limit,
				};
				ranges.set(key, known);
			}
			return known;
		},
		hopMs: (at, offset, replicas, next) => {
			const key = (offset * (shape.devices + 1) + replicas) * (shape.devices + 1) + next;
			let lines = hops.get(key);
			if (!lines) {
				const from: Place = { offset, count: replicas };
				lines = cluster.hopLines(from, { offset: offset + replicas, count: next });
				hops.set(key, lines);
			}
			return alongLines(lines, costs.cutBytes(at) * micro);
		},
		simulate: (bounds, replicas) => {
			const timeline = simulatePipeline(pipelineOf(job, shape, { bounds: [bounds], replicas }));
			return Math.max(...timeline.peakBytes) <= limit ? timeline.endMs : Number.POSITIVE_INFINITY;
		},
		nodeLimit,
		...(worthMs === undefined ? {} : { worthMs }),
	});
}

/** The most micro-batches whose saved values each rank holds at one time, by the order of its row alone. */
function mostHeld(rows: Schedule, ranks: number): readonly number[] {
	return Array.from({ length: ranks }, (_, rank) => {
		let held = 0;
		let most = 0;
		for (const { kind } of rows[rank]!) {
			if (kind === 'F') most = Math.max(most, ++held);
			else if (kind !== 'I') held--;
		}
		return most;
	});
}
