/** @file What an action of the schedule is on one device, whatever the micro-batch: what it feeds, waits for, runs, gives to the host and sends. */
import type { GraphId } from '../types.ts';
import type { Builds, Routed } from './builds.ts';
import type { Job, Rows, Stage } from './job.ts';
import type { Where } from './transfers.ts';
import type { OpenSlot } from './values.ts';

export interface Operation {
	readonly feeds: readonly { readonly slot: OpenSlot; readonly source: string; readonly rows: Rows }[];
	readonly receives: readonly { readonly slot: OpenSlot; readonly from: number }[];
	readonly graph: GraphId;
	readonly inputs: readonly OpenSlot[];
	readonly outputs: readonly OpenSlot[];
	readonly fetches: readonly { readonly slot: OpenSlot; readonly name: string; readonly row: number }[];
	readonly sends: readonly Message[];
}

export interface Message {
	readonly slot: OpenSlot;
	readonly to: number;
	/** The slot in which it arrives. */
	readonly as: OpenSlot;
}

/** A stage on a device. */
export interface Site {
	readonly job: Job;
	readonly builds: Builds;
	readonly routed: Routed;
	readonly stage: Stage;
	readonly where: Where;
}

/** Samples that the device takes of each micro-batch. */
export function samplesOf({ job, where }: Site): number {
	const [from, to] = job.rows(where.rank, where.i);
	return to - from;
}

/** Slot and host source of a chain input. Stages of one rank share it. */
export function fedSlot({ job, stage }: Site, input: string): { readonly slot: OpenSlot; readonly source: string } {
	const source = `${job.scopes[stage.backbone]!}${input}`;
	return { slot: `feed:${source}#`, source };
}
