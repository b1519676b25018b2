/** @file Which rows of a micro-batch go from which device of one rank to which of another. */
import type { Job, Rows } from './job.ts';

/** A device as its place in the job. */
export interface Where {
	readonly pipeline: number;
	readonly rank: number;
	/** Which of the rank's devices. */
	readonly i: number;
}

/** Rows that one device has and another wants. */
export interface Transfer {
	/** The other device's number. */
	readonly device: number;
	/** Counted from the first row of the device asked about. */
	readonly rows: Rows;
	/** All rows of the device asked about. */
	readonly whole: boolean;
	/** Ends the name of the slot in which the rows arrive: empty where they are all that the receiver wants. */
	readonly suffix: string;
}

/** What `here` sends of its rows to the devices of another rank. */
export function departures(job: Job, here: Where, rank: number): readonly Transfer[] {
	const numbers = job.devices(rank, here.pipeline);
	return numbers.flatMap((device, i) => transfer(job.rows(here.rank, here.i), job.rows(rank, i), device, 'sender'));
}

/** What `here` receives of its rows from the devices of another rank, in order. */
export function arrivals(job: Job, here: Where, rank: number): readonly Transfer[] {
	const numbers = job.devices(rank, here.pipeline);
	return numbers.flatMap((device, i) => transfer(job.rows(here.rank, here.i), job.rows(rank, i), device, 'receiver'));
}

function transfer(own: Rows, other: Rows, device: number, as: 'sender' | 'receiver'): Transfer[] {
	const [from, to] = [Math.max(own[0], other[0]), Math.min(own[1], other[1])];
	if (from >= to) return [];
	const wanted = as === 'receiver' ? own : other;
	const suffix = from === wanted[0] && to === wanted[1] ? '' : `[${from}:${to}]`;
	return [{ device, rows: [from - own[0], to - own[0]], whole: from === own[0] && to === own[1], suffix }];
}
