/**
 * @file Self-conditioning (Chen et al., arXiv 2208.04202) in a pipeline: every micro-batch first goes through all stages without gradients, and what
 * comes out is fed back to the first stage of the sweep that is trained.
 */
import { type Clock, endOf, type Pace, paceOf, readyAt, run, startClock } from './clock.ts';
import { chainsOf } from './topology.ts';
import type { Action, PlaceOptions, Schedule, StagePlace, Topology } from './types.ts';

/** A topology with sweeps ahead, and where each stage of the topology without them went. */
export interface Swept {
	readonly topology: Topology;
	readonly stageOf: readonly number[];
}

/**
 * Puts a forward-only copy of each chosen chain before it, stage by stage on the same ranks, its last stage feeding the chain's first. Numbers run
 * chain by chain, sweep first: a chain of S stages becomes 0 .. S-1 forward-only and S .. 2S-1.
 */
export function withSweeps({ ranks, stages }: Topology, swept: (chain: number) => boolean): Swept {
	const out: StagePlace[] = [];
	const stageOf = new Array<number>(stages.length).fill(0);
	for (const [i, chain] of chainsOf(stages).entries()) {
		const places = chain.map((stage) => stages[stage]!.rank);
		if (swept(i)) for (const rank of places) out.push({ rank, next: out.length + 1, forwardOnly: true });
		for (const [position, rank] of places.entries()) {
			stageOf[chain[position]!] = out.length;
			out.push(position + 1 < places.length ? { rank, next: out.length + 1 } : { rank });
		}
	}
	return { topology: { ranks, stages: out }, stageOf };
}

/** Which runs when a rank could do either now; `only`: nothing of the rank's rows before all its sweeps. */
type Preference = 'rows' | 'sweeps' | 'only';

/** Puts the forwards of the sweeps between the actions of `rows`, whose order stays: all before them, or where ranks would be idle, as ends first. */
export function addSweeps({ topology, stageOf }: Swept, rows: Schedule, { microBatches, costs }: PlaceOptions): Schedule {
	const pace = paceOf(topology, microBatches, costs);
	const moved = rows.map((row) => row.map(({ stage, kind, micro }): Action => ({ stage: stageOf[stage]!, kind, micro })));
	let best: Schedule = [];
	let end = Number.POSITIVE_INFINITY;
	for (const preference of ['only', 'sweeps', 'rows'] as const) {
		const merged = merge(pace, moved, preference);
		const its = endOf(pace, merged);
		if (its < end * (1 - 1e-9)) [best, end] = [merged, its];
	}
	return best;
}

function merge(pace: Pace, rows: Schedule, preference: Preference): Schedule {
	const clock = startClock(pace);
	const sweeps: number[][] = rows.map(() => []);
	for (let stage = 0; stage < pace.stages; stage++) if (pace.forwardOnly[stage]) sweeps[pace.rank[stage]!]!.push(stage);
	const swept = new Int32Array(pace.stages);
	const at = new Int32Array(rows.length);
	const out: Action[][] = rows.map(() => []);
	const choose = (rank: number) => pick(clock, clock.free[rank]!, sweeps[rank]!, swept, rows[rank]![at[rank]!], preference);
	const next = rows.map((_, rank) => choose(rank));
	for (;;) {
		let rank = 0;
		for (let i = 1; i < next.length; i++) if (next[i]!.start < next[rank]!.start) rank = i;
		const { action, start } = next[rank]!;
		if (action === undefined) return out;
		out[rank]!.push(action);
		if (pace.forwardOnly[action.stage]) swept[action.stage]!++;
		else at[rank]!++;
		const receiver = run(clock, action.kind, action.stage, action.micro, start);
		next[rank] = choose(rank);
		if (receiver >= 0) next[pace.rank[receiver]!] = choose(pace.rank[receiver]!);
	}
}

interface Next {
	readonly action: Action | undefined;
	/** Infinity when there is none, or none that could start. */
	readonly start: number;
}

/** What a rank that is `free` then does next: the next micro-batch of one of its sweeps, or `action`, the next of its row. */
function pick(
	clock: Clock,
	free: number,
	sweeps: readonly number[],
	swept: Int32Array,
	action: Action | undefined,
	preference: Preference,
): Next {
	let best: Next = { action: undefined, start: Number.POSITIVE_INFINITY };
	let left = false;
	for (const stage of sweeps) {
		const micro = swept[stage]!;
		if (micro >= clock.pace.micros) continue;
		left = true;
		const start = Math.max(free, readyAt(clock, 'F', stage, micro));
		// Of two stages' sweeps the one further along the chain, so that it ends first.
		if (start <= best.start) best = { action: { stage, kind: 'F', micro }, start };
	}
	if (action === undefined || (left && preference === 'only')) return best;
	const start = Math.max(free, readyAt(clock, action.kind, action.stage, action.micro));
	if (start < best.start || (start === best.start && preference === 'rows')) return { action, start };
	return best;
}
