/** @file A pipeline schedule as data: which rank holds each stage, and the compute actions of each rank in order; nothing about transfers. */

/** What a device computes, in PyTorch's schedule grammar: `0F3` is the forward of stage 0 on micro-batch 3; I and W are B in two parts. */
export interface Action {
	readonly stage: number;
	/** Forward, whole backward, backward for inputs only, backward for weights only. */
	readonly kind: 'F' | 'B' | 'I' | 'W';
	readonly micro: number;
}

/** One row of actions per rank. */
export type Schedule = readonly (readonly Action[])[];

/** Where a stage lies and what follows it. */
export interface StagePlace {
	readonly rank: number;
	/** The stage that takes its output; absent for the last of a chain. */
	readonly next?: number;
	/** A sweep without gradients (self-conditioning): F alone, and no gradient comes back from `next`. */
	readonly forwardOnly?: true;
}

/** Stages on ranks: one or more chains of stages, each stage of a backbone or of its sweep ahead. */
export interface Topology {
	readonly ranks: number;
	readonly stages: readonly StagePlace[];
}

/** `rows[rank]` in the order in which the rank runs them. */
export interface PlacedSchedule extends Topology {
	readonly rows: Schedule;
}

/**
 * How many forwards a stage runs before its first backward. `usual`: S-1-s, enough when transfers cost nothing. `deep`: 2(S-1-s), which also hides
 * a hop as long as a stage, at up to twice the saved activations.
 */
export type WarmUp = 'usual' | 'deep';

/** How stages lie on ranks: one after another, or two each with the chain folded in the middle, so that a U-Net's skips stay on their rank. */
export type Placement = 'linear' | 'folded';

/** What a stage costs per micro-batch; the times of `PipelineStage`. Sweeps ahead have no backward and save nothing. */
export interface StageCosts {
	readonly forwardMs: number;
	readonly backwardInputMs: number;
	readonly backwardWeightMs: number;
	/** The transfer to the next stage and of the gradient back from it; 0 where both are on one rank. */
	readonly hopForwardMs: number;
	readonly hopBackwardMs: number;
	/** Saved from F until B or W ends. */
	readonly savedBytes: number;
}

export interface ScheduleCosts {
	/** One per stage of the topology, sweeps ahead included. */
	readonly stages: readonly StageCosts[];
	/** The most that each rank may save at one time, bytes. Schedules whose order is fixed do not read it. */
	readonly limitBytes?: readonly number[];
}

export interface PlaceOptions {
	/** Ranks R of the pipeline. */
	readonly ranks: number;
	/** Micro-batches M of one iteration, of each backbone. */
	readonly microBatches: number;
	/** `usual` unless given. */
	readonly warmup?: WarmUp;
	/** Stages per rank, for schedules that interleave them; 2 unless given. */
	readonly chunks?: number;
	/** `linear` unless given. */
	readonly placement?: Placement;
	/** 1 unless given; 2 or more for the bidirectional schedule, and for no other. */
	readonly backbones?: number;
	/** Whether a forward-only sweep of every micro-batch runs ahead: of all backbones, or one answer per backbone. */
	readonly selfConditioning?: boolean | readonly boolean[];
	/** Schedules that are made from costs take every action as 1 ms, hops as nothing and every stage as 1 byte when absent. */
	readonly costs?: ScheduleCosts;
}

/** A schedule as the table of names holds it. */
export interface ScheduleKind {
	/** Stages on ranks, without sweeps ahead. Throws an input error naming the schedule when it cannot be made as `options` say. */
	readonly topology: (options: PlaceOptions) => Topology;
	/** The rows for these stages; `options.costs` are theirs. */
	readonly rows: (topology: Topology, options: PlaceOptions) => Schedule;
}

/** What generators of rows for one stage per rank take. */
export interface ScheduleOptions {
	/** Pipeline stages S, one rank each. */
	readonly stages: number;
	/** Micro-batches M of one iteration. */
	readonly microBatches: number;
	/** `usual` unless given. Schedules without a warm-up of their own do not read it. */
	readonly warmup?: WarmUp;
}

/** Makes the rows of a schedule of one stage per rank. Throws an input error when a count is not a whole number from 1. */
export type ScheduleGenerator = (options: ScheduleOptions) => Schedule;
