/** @file The exact division of a job's one backbone over a linear pipeline, as the schedule's simulated time and memory have it. */
import { alongLines, type Line } from '../cluster/places.ts';
import { exactLinear, type LinearAnswer } from '../partition/exact.ts';
import { linearTimer, stageTimes } from '../pipeline/timer.ts';
import type { Schedule } from '../schedules/types.ts';
import type { Job } from './job.ts';
import { placedSchedule } from './pipeline.ts';
import { microBatchOf, type Shape } from './shape.ts';

export interface DivideOptions {
	/** Bytes that each device keeps for other things, such as frozen weights. */
	readonly reservedBytes: number;
	readonly nodeLimit: number;
	readonly worthMs?: number;
}

/**
 * The best division of the first backbone over `shape`'s ranks, unequal replicas included; `memory` when none fits, `slow` when none is faster than `worthMs`.
 * Replica counts that divide no micro-batch into whole samples are left out.
 */
export function divideLinear(
	job: Job,
	shape: Shape,
	{ reservedBytes, nodeLimit, worthMs }: DivideOptions,
): LinearAnswer | 'memory' | 'slow' {
	const costs = job.costs(0, shape.recompute);
	const micro = microBatchOf(shape, job.batch);
	const cluster = job.places(shape.layout, shape.pipelines, shape.devices);
	const { rows } = placedSchedule(shape, 1, false);
	const held = mostHeld(rows, shape.ranks);
	const limit = job.cluster.memoryBytes - reservedBytes;
	const replicaChoices = Array.from({ length: shape.devices - shape.ranks + 1 }, (_, i) => i + 1).filter((r) => micro % r === 0);
	const syncs = new Map<number, Line>();
	const hops = new Map<number, ReturnType<typeof cluster.hopLines>>();
	const hopMs = (at: number, offset: number, replicas: number, next: number) => {
		const key = (offset * (shape.devices + 1) + replicas) * (shape.devices + 1) + next;
		let lines = hops.get(key);
		if (!lines) {
			lines = cluster.hopLines({ offset, count: replicas }, { offset: offset + replicas, count: next });
			hops.set(key, lines);
		}
		return alongLines(lines, costs.cutBytes(at) * micro);
	};
	const timer = linearTimer(rows);
	const times = stageTimes(shape.ranks);
	const { layers } = costs;
	return exactLinear({
		layers,
		ranks: shape.ranks,
		devices: shape.devices,
		microBatches: shape.microBatches,
		replicaChoices,
		split: rows.some((row) => row.some(({ kind }) => kind === 'W')),
		range: (from, to, replicas) => costs.range(from, to, micro / replicas),
		tailMs: (from, to, offset, replicas) => {
			const { gradBytes, updateMs } = costs.range(from, to, micro / replicas);
			if (gradBytes === 0) return updateMs;
			const key = offset * (shape.devices + 1) + replicas;
			let line = syncs.get(key);
			if (!line) {
				line = cluster.syncLine({ offset, count: replicas });
				syncs.set(key, line);
			}
			return line.fixed + line.perByte * gradBytes + updateMs;
		},
		fits: (from, to, rank, replicas) => {
			const { staticBytes, savedBytes } = costs.range(from, to, micro / replicas);
			return staticBytes + held[rank]! * savedBytes <= limit;
		},
		hopMs,
		simulate: (bounds, replicas) => {
			let offset = 0;
			for (const [rank, count] of replicas.entries()) {
				const to = bounds[rank + 1]!;
				const range = costs.range(bounds[rank]!, to, micro / count);
				times.forwardMs[rank] = range.forwardMs;
				times.backwardInputMs[rank] = range.backwardInputMs;
				times.backwardWeightMs[rank] = range.backwardWeightMs;
				times.syncMs[rank] = cluster.syncMs(range.gradBytes, { offset, count });
				times.updateMs[rank] = range.updateMs;
				const next = replicas[rank + 1];
				times.hopForwardMs[rank] = next === undefined ? 0 : hopMs(to, offset, count, next);
				offset += count;
			}
			times.hopBackwardMs.set(times.hopForwardMs);
			return timer(times);
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
