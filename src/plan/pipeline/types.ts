/** @file One iteration of a pipeline as numbers: what its stages cost, and when everything happens; no layers, no models. */
import type { Schedule } from '../schedules/types.ts';

/** A stage of some backbone as one rank sees it; a rank is a place in the pipeline, held by one device or by replicas that all do the same. */
export interface PipelineStage {
	readonly rank: number;
	/** The stage that takes its output; absent for the last of a chain. */
	readonly next?: number;
	/** A sweep without gradients (self-conditioning): no backward is expected. */
	readonly forwardOnly?: boolean;
	/** Per micro-batch, ms. B takes both backward times, I the first, W the second. */
	readonly forwardMs: number;
	readonly backwardInputMs: number;
	readonly backwardWeightMs: number;
	/** The transfer to `next` and of the gradient back from it, ms; 0 where both are on one rank. */
	readonly hopForwardMs: number;
	readonly hopBackwardMs: number;
	/** Saved per micro-batch, from F until B or W ends. */
	readonly savedBytes: number;
	/** The sum of the stage's gradients over its copies, ms; starts when the stage's last backward is done, beside later computation of the rank. */
	readonly syncMs: number;
	/** The optimiser's step, ms, when the stage's gradients are summed and the rank is free. */
	readonly updateMs: number;
	/** Weights, gradients and optimiser state. */
	readonly staticBytes: number;
}

/** `rows[rank]` in the order in which the rank runs them. */
export interface Pipeline {
	readonly ranks: number;
	readonly stages: readonly PipelineStage[];
	readonly rows: Schedule;
}

export type PipelineSpanKind = 'F' | 'B' | 'I' | 'W' | 'update';

/** What occupies a rank. */
export interface PipelineSpan {
	readonly kind: PipelineSpanKind;
	readonly stage: number;
	/** -1 for updates. */
	readonly micro: number;
	readonly start: number;
	readonly end: number;
}

/** What goes on beside computation: an activation or gradient between ranks, or a sum of gradients over a stage's copies. */
export interface PipelineTransfer {
	readonly kind: 'F' | 'B' | 'allReduce';
	/** The stage that sends. */
	readonly stage: number;
	readonly micro: number;
	readonly from: number;
	/** Equal to `from` for allReduce. */
	readonly to: number;
	readonly start: number;
	readonly end: number;
}

export interface PipelineTimeline {
	/** From the first action to the end of everything: the iteration when all ranks begin together, as clipping by the global gradient norm makes them. */
	readonly endMs: number;
	/** Per rank, in order of time. */
	readonly spans: readonly (readonly PipelineSpan[])[];
	readonly transfers: readonly PipelineTransfer[];
	/** Per rank: static bytes and the most that was saved at one time. */
	readonly peakBytes: readonly number[];
}
