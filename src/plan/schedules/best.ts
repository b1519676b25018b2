/** @file The best of several orders for given costs and memory: ready-made rows and what the list scheduler finds under several policies. */
import { endOf, type Pace, paceOf, peaksOf } from './clock.ts';
import { listSchedule, type Policy, workOf } from './list.ts';
import { refuse } from './options.ts';
import { chainsOf } from './topology.ts';
import type { PlaceOptions, Schedule, StagePlace, Topology } from './types.ts';

/** A policy as the schedules write it: `lead` says how far stages may be ahead, chain by chain (see `aheadOf`). */
export interface Try {
	readonly lead: number | readonly number[];
	readonly first: Policy['first'];
	/** `further` unless given. */
	readonly among?: Policy['among'];
	readonly patience?: number;
}

export interface Search {
	readonly name: string;
	readonly split: boolean;
	/** In the order in which they are tried; of equally good ones the first is kept. */
	readonly tries: readonly Try[];
	/** Orders that are tried before, where they fit in memory. */
	readonly ready?: readonly Schedule[];
	/** What the schedule itself allows each rank to save, bytes; the limit of the costs comes on top. No limit of its own when absent. */
	readonly savedBytes?: readonly number[];
	/** All forwards of a rank before its first backward, whatever leads and limits say. */
	readonly forwardsFirst?: true;
}

/** The rows that end first. Throws an input error naming the rank that cannot save one micro-batch of all its stages. */
export function bestRows(topology: Topology, { microBatches, costs }: PlaceOptions, search: Search): Schedule {
	const pace = paceOf(topology, microBatches, costs);
	const { name, split, forwardsFirst = false, savedBytes } = search;
	const limitBytes = forwardsFirst ? undefined : limitOf(pace, name, savedBytes, costs?.limitBytes);
	const bound = lowerBound(pace, split) * (1 + 1e-9);
	let best: Schedule = [];
	let end = Number.POSITIVE_INFINITY;
	for (const rows of search.ready ?? []) {
		if (limitBytes && peaksOf(pace, rows).some((peak, rank) => peak > limitBytes[rank]! * (1 + 1e-9))) continue;
		const its = endOf(pace, rows);
		if (its < end) [best, end] = [rows, its];
	}
	for (const { lead, first, among = 'further', patience = 0 } of search.tries) {
		if (end <= bound) break;
		const ahead = forwardsFirst ? topology.stages.map(() => microBatches) : aheadOf(topology.stages, lead);
		const policy = { split, ahead, first, among, patience, forwardsFirst, ...(limitBytes ? { limitBytes } : {}) };
		const found = listSchedule(pace, policy, end * (1 - 1e-9));
		if (found) ({ rows: best, end } = found);
	}
	return best;
}

/**
 * How far each stage's forwards may be ahead of its backwards: 1 + lead (L-1-p) for the stage at position p of a chain of L, rounded up. With a lead of 1
 * that is the usual 1F1B, with 2 the deep one.
 */
export function aheadOf(stages: readonly StagePlace[], lead: number | readonly number[]): number[] {
	const ahead = new Array<number>(stages.length).fill(1);
	for (const [i, chain] of chainsOf(stages).entries()) {
		const its = typeof lead === 'number' ? lead : lead[i % lead.length]!;
		for (const [position, stage] of chain.entries()) ahead[stage] = 1 + Math.ceil(its * (chain.length - 1 - position));
	}
	return ahead;
}

/** What 1F1B with this lead saves at most on each rank, bytes. */
export function aheadBytes(topology: Topology, { costs }: PlaceOptions, lead: number): number[] {
	const ahead = aheadOf(topology.stages, lead);
	const bytes = new Array<number>(topology.ranks).fill(0);
	for (const [stage, { rank }] of topology.stages.entries()) bytes[rank]! += ahead[stage]! * (costs ? costs.stages[stage]!.savedBytes : 1);
	return bytes;
}

function limitOf(
	pace: Pace,
	name: string,
	own: readonly number[] | undefined,
	given: readonly number[] | undefined,
): readonly number[] | undefined {
	if (given === undefined) return own;
	const all = new Float64Array(pace.ranks);
	for (let stage = 0; stage < pace.stages; stage++) all[pace.rank[stage]!]! += pace.savedBytes[stage]!;
	return given.map((limit, rank) => {
		if (!(all[rank]! <= limit * (1 + 1e-9))) {
			refuse(
				name,
				`rank ${rank} cannot save one micro-batch`,
				`at least ${all[rank]} bytes for all its stages`,
				`${limit} bytes`,
				'smaller micro-batches',
			);
		}
		return own ? Math.min(limit, own[rank]!) : limit;
	});
}

/**
 * No order ends earlier, ms: a rank works without a break between the earliest arrival of its first forward and the earliest end of what follows its
 * last backward; and one micro-batch goes there and back.
 */
export function lowerBound(pace: Pace, split: boolean): number {
	const { stages, ranks, previous, next, rank, forwardMs, inputMs, weightMs, hopForwardMs, hopBackwardMs } = pace;
	const hop = (from: number, to: number, ms: number) => (rank[from] === rank[to] ? 0 : ms);
	const head = new Float64Array(stages);
	const tail = new Float64Array(stages);
	const firstAt = new Float64Array(ranks).fill(Number.POSITIVE_INFINITY);
	const lastFor = new Float64Array(ranks).fill(Number.POSITIVE_INFINITY);
	let bound = 0;
	for (let stage = 0; stage < stages; stage++) {
		const before = previous[stage]!;
		if (before >= 0) {
			head[stage] = head[before]! + forwardMs[before]! + hop(before, stage, hopForwardMs[before]!);
			tail[stage] = tail[before]! + inputMs[before]! + (split ? 0 : weightMs[before]!) + hop(before, stage, hopBackwardMs[before]!);
		}
		const mine = rank[stage]!;
		firstAt[mine] = Math.min(firstAt[mine]!, head[stage]!);
		lastFor[mine] = split ? 0 : Math.min(lastFor[mine]!, tail[stage]!);
		if (next[stage]! < 0) {
			bound = Math.max(bound, head[stage]! + forwardMs[stage]! + inputMs[stage]! + (split ? 0 : weightMs[stage]!) + tail[stage]!);
		}
	}
	const work = workOf(pace);
	for (let mine = 0; mine < ranks; mine++) bound = Math.max(bound, firstAt[mine]! + work[mine]! + lastFor[mine]!);
	return bound;
}
