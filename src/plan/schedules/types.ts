/** @file A pipeline schedule as data: the compute actions of each rank, in order; nothing about time, transfers or memory. */
import { DiffusionPipeError } from '../../core/errors.ts';

/** What a device computes, in PyTorch's schedule grammar: `0F3` is the forward of stage 0 on micro-batch 3; I and W are B in two parts. */
export interface Action {
	readonly stage: number;
	/** Forward, whole backward, backward for inputs only, backward for weights only. */
	readonly kind: 'F' | 'B' | 'I' | 'W';
	readonly micro: number;
}

/** One row of actions per rank. */
export type Schedule = readonly (readonly Action[])[];

/**
 * How many forwards a stage runs before its first backward. `usual`: S-1-s, enough when transfers cost nothing. `deep`: 2(S-1-s), which also hides
 * a hop as long as a stage, at up to twice the saved activations.
 */
export type WarmUp = 'usual' | 'deep';

export interface ScheduleOptions {
	/** Pipeline stages S, one rank each. */
	readonly stages: number;
	/** Micro-batches M of one iteration. */
	readonly microBatches: number;
	/** `usual` unless given. Schedules without a warm-up of their own do not read it. */
	readonly warmup?: WarmUp;
}

/** Makes the rows of a schedule. Throws an input error when a count is not a whole number from 1. */
export type ScheduleGenerator = (options: ScheduleOptions) => Schedule;

/** Throws an input error unless both counts are whole numbers from 1. */
export function checkScheduleOptions(name: string, { stages, microBatches }: ScheduleOptions): void {
	for (const [what, count] of Object.entries({ stages, microBatches })) {
		if (!Number.isSafeInteger(count) || count < 1) {
			throw new DiffusionPipeError('input', `bad number of ${what}`, {
				place: `schedule ${name}`,
				expected: 'a whole number from 1',
				found: String(count),
			});
		}
	}
}
