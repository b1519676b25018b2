/**
 * @file A list scheduler: walks through time, and whenever a rank is free gives it the most urgent action whose inputs are there and whose
 * activations fit.
 */
import { type Clock, durationOf, type Pace, run, startClock } from './clock.ts';
import type { Action, Schedule } from './types.ts';

/** What to run first, and how much may be under way. */
export interface Policy {
	/** Backwards in two parts, W in what would be idle time; whole otherwise. */
	readonly split: boolean;
	/** The most forwards that each stage may be ahead of its backwards, from 1. */
	readonly ahead: readonly number[];
	/** The most that each rank may save at one time, bytes; at least one micro-batch of everything it holds. No limit when absent. */
	readonly limitBytes?: readonly number[];
	/** Of a forward and a backward that are both ready, which runs. */
	readonly first: 'F' | 'B';
	/** Of two stages' equal actions, which runs: that of the stage further along the chain, or that of the older micro-batch. */
	readonly among: 'further' | 'older';
	/** For what share of W's time a rank rather stays idle, when it knows that something more urgent arrives within. */
	readonly patience?: number;
	/** No backward before all forwards of its rank. */
	readonly forwardsFirst?: boolean;
}

/** Rows and their end, as `endOf` counts it. */
export interface Listed {
	readonly rows: Schedule;
	readonly end: number;
}

/** Kinds as numbers, most urgent order left to the policy. */
const forward = 0;
const backward = 1;
const weights = 2;

interface Walk {
	readonly clock: Clock;
	readonly policy: Policy;
	readonly kinds: number;
	readonly stagesOf: readonly (readonly number[])[];
	/** Chain of each stage, and its position there. */
	readonly chain: Int32Array;
	readonly chains: number;
	readonly depth: Int32Array;
	/** [kind][stage]: the next micro-batch; whole backwards count as weights too. */
	readonly next: readonly [Int32Array, Int32Array, Int32Array];
	readonly bytes: Float64Array;
	readonly forwardsLeft: Int32Array;
	/** The next action of each rank: when (Infinity when nothing can start), which kind, which stage. */
	readonly start: Float64Array;
	readonly kind: Uint8Array;
	readonly stage: Int32Array;
}

/**
 * The rows that `policy` gives; every micro-batch goes through every stage in order of its number. Undefined when they would not end before
 * `before`.
 */
export function listSchedule(pace: Pace, policy: Policy, before = Number.POSITIVE_INFINITY): Listed | undefined {
	const walk = begin(pace, policy);
	const { micros, ranks } = pace;
	const left = workOf(pace);
	const rows: number[][] = Array.from({ length: ranks }, () => []);
	for (let rank = 0; rank < ranks; rank++) choose(walk, rank);
	for (;;) {
		let rank = 0;
		for (let i = 1; i < ranks; i++) if (walk.start[i]! < walk.start[rank]!) rank = i;
		const start = walk.start[rank]!;
		if (start === Number.POSITIVE_INFINITY) break;
		if (start + left[rank]! >= before) return undefined;
		const kind = walk.kind[rank]!;
		const stage = walk.stage[rank]!;
		const micro = walk.next[kind as 0 | 1 | 2][stage]!++;
		rows[rank]!.push((stage * micros + micro) * 3 + kind);
		if (kind === forward) {
			walk.forwardsLeft[rank]!--;
			walk.bytes[rank]! += pace.savedBytes[stage]!;
		} else if (kind === weights || !policy.split) {
			walk.bytes[rank]! -= pace.savedBytes[stage]!;
			if (kind === backward) walk.next[weights][stage]!++;
		}
		const name = nameOf(kind, policy.split);
		left[rank]! -= durationOf(pace, name, stage);
		const receiver = run(walk.clock, name, stage, micro, start);
		choose(walk, rank);
		if (receiver >= 0 && pace.rank[receiver] !== rank) choose(walk, pace.rank[receiver]!);
	}
	const action = (code: number): Action => ({
		stage: Math.floor(code / 3 / micros),
		kind: nameOf(code % 3, policy.split),
		micro: Math.floor(code / 3) % micros,
	});
	return { rows: rows.map((row) => row.map(action)), end: walk.clock.free.reduce((a, b) => Math.max(a, b), 0) };
}

function nameOf(kind: number, split: boolean): Action['kind'] {
	return kind === forward ? 'F' : kind === weights ? 'W' : split ? 'I' : 'B';
}

/** The time that each rank computes, ms. */
export function workOf(pace: Pace): Float64Array {
	const work = new Float64Array(pace.ranks);
	for (let stage = 0; stage < pace.stages; stage++) {
		const each = pace.forwardMs[stage]! + pace.inputMs[stage]! + pace.weightMs[stage]!;
		work[pace.rank[stage]!]! += pace.micros * each;
	}
	return work;
}

function begin(pace: Pace, policy: Policy): Walk {
	const { ranks, stages, micros, previous } = pace;
	const stagesOf: number[][] = Array.from({ length: ranks }, () => []);
	const depth = new Int32Array(stages);
	const chain = new Int32Array(stages);
	let chains = 0;
	for (let stage = 0; stage < stages; stage++) {
		const fed = previous[stage]!;
		stagesOf[pace.rank[stage]!]!.push(stage);
		depth[stage] = fed < 0 ? 0 : depth[fed]! + 1;
		chain[stage] = fed < 0 ? chains++ : chain[fed]!;
	}
	return {
		clock: startClock(pace),
		policy,
		kinds: policy.split ? 3 : 2,
		stagesOf,
		chain,
		chains,
		depth,
		next: [new Int32Array(stages), new Int32Array(stages), new Int32Array(stages)],
		bytes: new Float64Array(ranks),
		forwardsLeft: Int32Array.from(stagesOf, (mine) => mine.length * micros),
		start: new Float64Array(ranks),
		kind: new Uint8Array(ranks),
		stage: new Int32Array(ranks),
	};
}

/** Finds the next action of `rank` from what is known now: the earliest, of those the most urgent. */
function choose(walk: Walk, rank: number): void {
	const { policy, kinds, stagesOf } = walk;
	const free = walk.clock.free[rank]!;
	const mine = stagesOf[rank]!;
	let start = Number.POSITIVE_INFINITY;
	let kind = forward;
	let stage = -1;
	for (const candidate of mine) {
		for (let other = forward; other < kinds; other++) {
			const at = startOf(walk, rank, other, candidate, free);
			if (at > start + 1e-9 || at === Number.POSITIVE_INFINITY) continue;
			if (at >= start - 1e-9 && !goesBefore(walk, other, candidate, kind, stage)) continue;
			start = Math.min(start, at);
			kind = other;
			stage = candidate;
		}
	}
	if (kind === weights && policy.patience) {
		let until = start + policy.patience * walk.clock.pace.weightMs[stage]!;
		for (const candidate of mine) {
			for (let other = forward; other < weights; other++) {
				const at = startOf(walk, rank, other, candidate, free);
				if (at >= until) continue;
				until = at;
				start = at;
				kind = other;
				stage = candidate;
			}
		}
	}
	walk.start[rank] = start;
	walk.kind[rank] = kind;
	walk.stage[rank] = stage;
}

/** When the stage's next action of this kind could start; Infinity when it may not or is not known. */
function startOf(walk: Walk, rank: number, kind: number, stage: number, free: number): number {
	const { clock, policy, next } = walk;
	const { micros } = clock.pace;
	const micro = next[kind as 0 | 1 | 2][stage]!;
	const key = stage * micros + micro;
	let ready: number;
	if (kind === forward) {
		if (micro >= micros || micro - next[backward][stage]! >= policy.ahead[stage]!) return Number.POSITIVE_INFINITY;
		ready = clock.inputAt[key]!;
		if (Number.isNaN(ready) || !fits(walk, rank, stage)) return Number.POSITIVE_INFINITY;
	} else if (kind === weights) {
		if (micro >= next[backward][stage]!) return Number.POSITIVE_INFINITY;
		ready = clock.inputGradEnd[key]!;
	} else {
		if (micro >= next[forward][stage]! || (policy.forwardsFirst && walk.forwardsLeft[rank]! > 0)) return Number.POSITIVE_INFINITY;
		ready = Math.max(clock.forwardEnd[key]!, clock.gradAt[key]!);
		if (Number.isNaN(ready)) return Number.POSITIVE_INFINITY;
	}
	return Math.max(free, ready);
}

function goesBefore(walk: Walk, kind: number, stage: number, otherKind: number, other: number): boolean {
	const { policy, depth, next } = walk;
	if (kind !== otherKind) {
		if (kind === weights || otherKind === weights) return otherKind === weights;
		return (kind === forward) === (policy.first === 'F');
	}
	const older = next[kind as 0 | 1 | 2][stage]! - next[kind as 0 | 1 | 2][other]!;
	const further = (depth[other]! - depth[stage]!) * (kind === forward ? 1 : -1);
	return (policy.among === 'older' ? older || further : further || older) < 0;
}

/**
 * Whether the rank can save one more micro-batch of `stage` and still finish, one after another, all that it has begun. The order in which micro-batches
 * could finish is the same on all ranks (by number, then chain), so that ranks whose memory is full never wait for each other.
 */
function fits(walk: Walk, rank: number, stage: number): boolean {
	const limit = walk.policy.limitBytes?.[rank];
	if (limit === undefined) return true;
	const { clock, bytes, chain, next } = walk;
	const [nextF, , nextW] = next;
	const { savedBytes } = clock.pace;
	let free = limit * (1 + 1e-9) - bytes[rank]! - savedBytes[stage]!;
	if (free < 0) return false;
	const mine = walk.stagesOf[rank]!;
	if (mine.length === 1) return true;
	nextF[stage]!++;
	let from = Number.POSITIVE_INFINITY;
	let to = 0;
	for (const other of mine) {
		from = Math.min(from, nextW[other]!);
		to = Math.max(to, nextF[other]!);
	}
	let safe = true;
	for (let micro = from; safe && micro < to; micro++) {
		for (let first = 0; first < walk.chains; first++) {
			let needed = 0;
			let held = 0;
			for (const other of mine) {
				if (chain[other] !== first) continue;
				if (nextF[other]! <= micro) needed += savedBytes[other]!;
				else if (nextW[other]! <= micro) held += savedBytes[other]!;
			}
			if (needed > free) safe = false;
			free += held;
		}
	}
	nextF[stage]!--;
	return safe;
}
