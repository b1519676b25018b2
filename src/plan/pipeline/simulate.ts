/** @file When everything in one iteration of a pipeline happens: each rank works through its row, an action waits for its inputs. */
import { DiffusionPipeError } from '../../core/errors.ts';
import { formatAction } from '../schedules/text.ts';
import type { Action } from '../schedules/types.ts';
import type { Pipeline, PipelineSpan, PipelineStage, PipelineTimeline, PipelineTransfer } from './types.ts';

/** The walk's memory: everything indexed by stage * micros + micro. */
interface Walk {
	readonly stages: readonly PipelineStage[];
	readonly micros: number;
	/** Which stage feeds each stage; -1 for the first of a chain. */
	readonly before: Int32Array;
	/** When the input of F, and the gradient that B or I needs, is on the rank; NaN until known. */
	readonly inputAt: Float64Array;
	readonly gradAt: Float64Array;
	/** When F, and I, ended; NaN until known. */
	readonly forwardEnd: Float64Array;
	readonly inputGradEnd: Float64Array;
	/** [from * ranks + to]: when the link is free again. */
	readonly linkFree: Float64Array;
	readonly free: Float64Array;
	readonly bytes: Float64Array;
	readonly peak: Float64Array;
	readonly lastBackward: Float64Array;
	readonly spans: PipelineSpan[][];
	readonly transfers: PipelineTransfer[];
	readonly ranks: number;
}

/**
 * The timeline of one iteration from time 0: F waits for the output of the stage before, B and I for the stage's own F and the gradient of the stage
 * after, W for its I. A transfer starts when its value is made and its link (from one rank to another) has carried what was sent before; it occupies no
 * rank. After a stage's last backward its gradients are summed (sums of one rank one after another), then its optimiser steps. A rank holds a
 * micro-batch's `savedBytes` from the start of F to the end of B or W. Linear in the number of actions. Throws an input error naming an action of each
 * rank that waits for ever, or one that names no stage.
 */
export function simulatePipeline(pipeline: Pipeline): PipelineTimeline {
	const walk = begin(pipeline);
	const { rows } = pipeline;
	const at = new Int32Array(rows.length);
	for (let progress = true; progress; ) {
		progress = false;
		for (let rank = 0; rank < rows.length; rank++) {
			const row = rows[rank]!;
			while (at[rank]! < row.length && step(walk, rank, row[at[rank]!]!)) {
				at[rank]!++;
				progress = true;
			}
		}
	}
	const stuck = rows.flatMap((row, rank) => (at[rank]! < row.length ? [`rank ${rank} at ${formatAction(row[at[rank]!]!)}`] : []));
	if (stuck.length > 0) {
		throw new DiffusionPipeError('input', 'the rows wait for each other', {
			place: 'pipeline',
			expected: 'an order in which every action finds its inputs',
			found: stuck.join('; '),
		});
	}
	finish(walk);
	const endMs = Math.max(0, ...walk.free, ...walk.transfers.map((t) => t.end));
	return { endMs, spans: walk.spans, transfers: walk.transfers, peakBytes: [...walk.peak] };
}

function begin({ ranks, stages, rows }: Pipeline): Walk {
	let micros = 0;
	for (const row of rows) {
		for (const action of row) {
			micros = Math.max(micros, action.micro + 1);
			if (stages[action.stage] === undefined) {
				throw new DiffusionPipeError('input', 'an action of no stage', {
					place: `pipeline, ${formatAction(action)}`,
					expected: `a stage below ${stages.length}`,
					found: String(action.stage),
				});
			}
		}
	}
	const before = new Int32Array(stages.length).fill(-1);
	stages.forEach((stage, i) => {
		if (stage.next !== undefined) before[stage.next] = i;
	});
	const unknown = () => new Float64Array(stages.length * micros).fill(Number.NaN);
	const bytes = new Float64Array(ranks);
	for (const stage of stages) bytes[stage.rank]! += stage.staticBytes;
	return {
		stages,
		micros,
		before,
		inputAt: unknown(),
		gradAt: unknown(),
		forwardEnd: unknown(),
		inputGradEnd: unknown(),
		linkFree: new Float64Array(ranks * ranks),
		free: new Float64Array(ranks),
		bytes,
		peak: bytes.slice(),
		lastBackward: new Float64Array(stages.length).fill(Number.NaN),
		spans: Array.from({ length: ranks }, () => []),
		transfers: [],
		ranks,
	};
}

/** Runs `action` if its inputs are known; false when they are not yet. */
function step(walk: Walk, rank: number, action: Action): boolean {
	const { stages, micros, before, forwardEnd, inputGradEnd } = walk;
	const { stage, kind, micro } = action;
	const spec = stages[stage]!;
	const key = stage * micros + micro;
	let ready: number;
	if (kind === 'F') ready = before[stage]! < 0 ? 0 : walk.inputAt[key]!;
	else if (kind === 'W') ready = inputGradEnd[key]!;
	else ready = Math.max(forwardEnd[key]!, spec.next === undefined ? 0 : walk.gradAt[key]!);
	if (Number.isNaN(ready)) return false;
	const start = Math.max(walk.free[rank]!, ready);
	const { forwardMs, backwardInputMs, backwardWeightMs } = spec;
	const ms =
		kind === 'F' ? forwardMs : kind === 'I' ? backwardInputMs : kind === 'W' ? backwardWeightMs : backwardInputMs + backwardWeightMs;
	const end = start + ms;
	walk.free[rank] = end;
	walk.spans[rank]!.push({ kind, stage, micro, start, end });
	if (kind === 'F') {
		forwardEnd[key] = end;
		if (!spec.forwardOnly) {
			walk.bytes[rank]! += spec.savedBytes;
			walk.peak[rank] = Math.max(walk.peak[rank]!, walk.bytes[rank]!);
		}
		if (spec.next !== undefined)
			walk.inputAt[spec.next * micros + micro] = transfer(walk, 'F', stage, spec.next, micro, spec.hopForwardMs, end);
		return true;
	}
	if (kind !== 'I') {
		walk.bytes[rank]! -= spec.savedBytes;
		walk.lastBackward[stage] = end;
	}
	if (kind !== 'W') {
		inputGradEnd[key] = end;
		const previous = before[stage]!;
		if (previous >= 0 && !stages[previous]!.forwardOnly) {
			walk.gradAt[previous * micros + micro] = transfer(walk, 'B', stage, previous, micro, stages[previous]!.hopBackwardMs, end);
		}
	}
	return true;
}

/** When a value made at `ready` on the rank of `stage` is on the rank of `target`. */
function transfer(walk: Walk, kind: 'F' | 'B', stage: number, target: number, micro: number, ms: number, ready: number): number {
	const from = walk.stages[stage]!.rank;
	const to = walk.stages[target]!.rank;
	if (from === to || ms === 0) return ready;
	const link = from * walk.ranks + to;
	const start = Math.max(ready, walk.linkFree[link]!);
	walk.linkFree[link] = start + ms;
	walk.transfers.push({ kind, stage, micro, from, to, start, end: start + ms });
	return start + ms;
}

/** Sums of gradients in the order in which they become ready on each rank, then the optimiser's steps. */
function finish(walk: Walk): void {
	const order = walk.stages
		.map((spec, stage) => ({ spec, stage, ready: walk.lastBackward[stage]! }))
		.filter(({ ready }) => !Number.isNaN(ready))
		.sort((a, b) => a.ready - b.ready || a.stage - b.stage);
	const sumsFree = new Float64Array(walk.ranks);
	for (const { spec, stage, ready } of order) {
		const start = Math.max(ready, sumsFree[spec.rank]!);
		const summed = start + spec.syncMs;
		if (spec.syncMs > 0) {
			sumsFree[spec.rank] = summed;
			walk.transfers.push({ kind: 'allReduce', stage, micro: -1, from: spec.rank, to: spec.rank, start, end: summed });
		}
		if (spec.updateMs > 0) {
			const begin = Math.max(summed, walk.free[spec.rank]!);
			walk.free[spec.rank] = begin + spec.updateMs;
			walk.spans[spec.rank]!.push({ kind: 'update', stage, micro: -1, start: begin, end: begin + spec.updateMs });
		}
	}
}
