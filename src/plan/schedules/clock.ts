/** @file When actions run, one at a time: the times of `simulatePipeline` without its record, for schedules that are made by trying. */
import { previousOf } from './topology.ts';
import type { Action, Schedule, ScheduleCosts, StageCosts, Topology } from './types.ts';

/** Stages and costs as flat arrays, shared by all tries. */
export interface Pace {
	readonly ranks: number;
	readonly stages: number;
	readonly micros: number;
	readonly rank: Int32Array;
	/** -1 for none. */
	readonly next: Int32Array;
	readonly previous: Int32Array;
	/** 1 for stages that hand a gradient back: those with a backward that follow another such stage. */
	readonly handsBack: Uint8Array;
	readonly forwardOnly: Uint8Array;
	readonly forwardMs: Float64Array;
	readonly inputMs: Float64Array;
	readonly weightMs: Float64Array;
	readonly hopForwardMs: Float64Array;
	readonly hopBackwardMs: Float64Array;
	readonly savedBytes: Float64Array;
}

const unit: StageCosts = { forwardMs: 1, backwardInputMs: 1, backwardWeightMs: 1, hopForwardMs: 0, hopBackwardMs: 0, savedBytes: 1 };

/** `costs` of one per stage, or 1 ms for everything and no hops; sweeps ahead cost no backward and save nothing. */
export function paceOf({ ranks, stages }: Topology, micros: number, costs: ScheduleCosts | undefined): Pace {
	const previous = previousOf(stages);
	const of = (key: keyof StageCosts, ahead = true) =>
		Float64Array.from(stages, ({ forwardOnly }, i) => (forwardOnly && !ahead ? 0 : (costs?.stages[i] ?? unit)[key]));
	return {
		ranks,
		stages: stages.length,
		micros,
		rank: Int32Array.from(stages, ({ rank }) => rank),
		next: Int32Array.from(stages, ({ next }) => next ?? -1),
		previous,
		handsBack: Uint8Array.from(stages, ({ forwardOnly }, i) =>
			!forwardOnly && previous[i]! >= 0 && !stages[previous[i]!]!.forwardOnly ? 1 : 0,
		),
		forwardOnly: Uint8Array.from(stages, ({ forwardOnly }) => (forwardOnly ? 1 : 0)),
		forwardMs: of('forwardMs'),
		inputMs: of('backwardInputMs', false),
		weightMs: of('backwardWeightMs', false),
		hopForwardMs: of('hopForwardMs'),
		hopBackwardMs: of('hopBackwardMs', false),
		savedBytes: of('savedBytes', false),
	};
}

/** How far one try has come. Arrays over stage x micro hold NaN until known. */
export interface Clock {
	readonly pace: Pace;
	/** When the input of F, and the gradient that B or I needs, is on the rank. */
	readonly inputAt: Float64Array;
	readonly gradAt: Float64Array;
	readonly forwardEnd: Float64Array;
	readonly inputGradEnd: Float64Array;
	/** [from * ranks + to]: when the link is free again. */
	readonly linkFree: Float64Array;
	/** When each rank is free again. */
	readonly free: Float64Array;
}

/** A clock at time 0: first stages have their inputs, last stages their gradients, nothing else is known. */
export function startClock(pace: Pace): Clock {
	const { stages, micros, ranks, previous, next } = pace;
	const unknown = () => new Float64Array(stages * micros).fill(Number.NaN);
	const inputAt = unknown();
	const gradAt = unknown();
	for (let stage = 0; stage < stages; stage++) {
		if (previous[stage]! < 0) inputAt.fill(0, stage * micros, (stage + 1) * micros);
		if (next[stage]! < 0) gradAt.fill(0, stage * micros, (stage + 1) * micros);
	}
	return {
		pace,
		inputAt,
		gradAt,
		forwardEnd: unknown(),
		inputGradEnd: unknown(),
		linkFree: new Float64Array(ranks * ranks),
		free: new Float64Array(ranks),
	};
}

/** When the inputs of an action are there; NaN when that is not known yet. */
export function readyAt(clock: Clock, kind: Action['kind'], stage: number, micro: number): number {
	const key = stage * clock.pace.micros + micro;
	if (kind === 'F') return clock.inputAt[key]!;
	if (kind === 'W') return clock.inputGradEnd[key]!;
	return Math.max(clock.forwardEnd[key]!, clock.gradAt[key]!);
}

/** Of an action of `kind` on one micro-batch of `stage`, ms; B is both parts of the backward. */
export function durationOf({ forwardMs, inputMs, weightMs }: Pace, kind: Action['kind'], stage: number): number {
	if (kind === 'F') return forwardMs[stage]!;
	if (kind === 'I') return inputMs[stage]!;
	return kind === 'W' ? weightMs[stage]! : inputMs[stage]! + weightMs[stage]!;
}

/** Runs an action at `start` and sends what it makes; returns the stage that receives, -1 for none. */
export function run(clock: Clock, kind: Action['kind'], stage: number, micro: number, start: number): number {
	const { pace } = clock;
	const key = stage * pace.micros + micro;
	const end = start + durationOf(pace, kind, stage);
	clock.free[pace.rank[stage]!] = end;
	if (kind === 'F') {
		clock.forwardEnd[key] = end;
		const next = pace.next[stage]!;
		if (next >= 0) clock.inputAt[next * pace.micros + micro] = arrival(clock, stage, next, pace.hopForwardMs[stage]!, end);
		return next;
	}
	if (kind === 'W') return -1;
	clock.inputGradEnd[key] = end;
	if (!pace.handsBack[stage]) return -1;
	const previous = pace.previous[stage]!;
	clock.gradAt[previous * pace.micros + micro] = arrival(clock, stage, previous, pace.hopBackwardMs[previous]!, end);
	return previous;
}

function arrival({ pace, linkFree }: Clock, from: number, to: number, ms: number, ready: number): number {
	const sender = pace.rank[from]!;
	const receiver = pace.rank[to]!;
	if (sender === receiver || ms === 0) return ready;
	const link = sender * pace.ranks + receiver;
	const end = Math.max(ready, linkFree[link]!) + ms;
	linkFree[link] = end;
	return end;
}

/** When rows end that every rank works through in order; Infinity when they wait for each other. */
export function endOf(pace: Pace, rows: Schedule): number {
	const clock = startClock(pace);
	const at = new Int32Array(rows.length);
	for (let progress = true; progress; ) {
		progress = false;
		for (let rank = 0; rank < rows.length; rank++) {
			const row = rows[rank]!;
			for (; at[rank]! < row.length; at[rank]!++) {
				const { kind, stage, micro } = row[at[rank]!]!;
				const ready = readyAt(clock, kind, stage, micro);
				if (Number.isNaN(ready)) break;
				run(clock, kind, stage, micro, Math.max(ready, clock.free[rank]!));
				progress = true;
			}
		}
	}
	if (rows.some((row, rank) => at[rank]! < row.length)) return Number.POSITIVE_INFINITY;
	return clock.free.reduce((a, b) => Math.max(a, b), 0);
}

/** The most that each rank saves at one time when it works through its row, bytes. */
export function peaksOf({ savedBytes }: Pace, rows: Schedule): number[] {
	return rows.map((row) => {
		let held = 0;
		let peak = 0;
		for (const { kind, stage } of row) {
			if (kind === 'I') continue;
			held += kind === 'F' ? savedBytes[stage]! : -savedBytes[stage]!;
			peak = Math.max(peak, held);
		}
		return peak;
	});
}
