/** @file A plan, version 1: where and when each piece of a training job runs, and what that is predicted to cost. Plain data, the JSON that `plan` writes. */
import type { FillItem, FillMove } from './fill/types.ts';
import type { WarmUp } from './schedules/types.ts';

/** Which devices stand beside each other: those of one pipeline, or the copies of one stage. */
export type Layout = 'pipelines' | 'copies';

/** How stages lie on ranks: one each, or two each with the chain folded in the middle, so that a U-Net's skips stay on their rank. */
export type Placement = 'linear' | 'folded';

export interface PlanStage {
	/** Backbone name. */
	readonly backbone: string;
	/** [from, to) of its layers. */
	readonly layers: readonly [from: number, to: number];
	/** Every device that holds the stage: pipelines x replicas of them, pipeline by pipeline. */
	readonly devices: readonly number[];
	/** Rank within the pipeline, the row of the schedule. */
	readonly rank: number;
	/** Devices within one pipeline that share a micro-batch of this stage. */
	readonly replicas: number;
	/** Per micro-batch on one device, ms. */
	readonly forwardMs: number;
	readonly backwardMs: number;
	/** The sum of gradients over `devices`, ms. */
	readonly syncMs: number;
}

export interface BubbleRatio {
	/** Idle device time over device time while the pipeline alone runs, and of the whole iteration with the frozen work in it. */
	readonly unfilled: number;
	readonly filled: number;
}

/** Another way of training the same job on the same devices. */
export interface Baseline {
	readonly name: string;
	/** Infinity when it does not fit in memory. */
	readonly iterationMs: number;
	readonly imagesPerSecond: number;
	/** Of the device that needs most. */
	readonly peakBytes: number;
	readonly fits: boolean;
	/** What was chosen for it (stages, micro-batches, ...) or why it does not fit, for people. */
	readonly detail: string;
}

export interface Plan {
	readonly version: 1;
	readonly profile: string;
	readonly batch: number;
	readonly devices: number;
	/** Copies of the whole pipeline, each on its part of the batch. */
	readonly pipelines: number;
	/** Ranks of one pipeline. */
	readonly ranks: number;
	readonly microBatches: number;
	/** Name as in the table of schedules. */
	readonly schedule: string;
	readonly warmup: WarmUp;
	readonly placement: Placement;
	readonly layout: Layout;
	/** Whether stages keep only their inputs and run the forward again in the backward. */
	readonly recompute: boolean;
	readonly stages: readonly PlanStage[];
	readonly iterationMs: number;
	readonly lowerBoundMs: number;
	/** The pipeline alone, ms. */
	readonly pipelineMs: number;
	/** Frozen work before the pipeline where it is not filled in, ms. */
	readonly frozenMs: number;
	readonly imagesPerSecond: number;
	readonly bubbleRatio: BubbleRatio;
	/** Device by device of one pipeline. */
	readonly peakBytes: readonly number[];
	/** Device numbers and samples (of the global batch) over all pipelines. */
	readonly fill: readonly FillItem[];
	readonly moves: readonly FillMove[];
	/** One row per rank in PyTorch's grammar: `0F0,0F1,0B0`. */
	readonly rows: readonly string[];
	/** Iterations with the extra sweep, when the backbone is trained with self-conditioning: their rows and filling. Times above are expectations. */
	readonly selfConditioning?: {
		readonly probability: number;
		readonly iterationMs: number;
		readonly rows: readonly string[];
		readonly fill: readonly FillItem[];
		readonly moves: readonly FillMove[];
	};
	/** Best first. */
	readonly baselines: readonly Baseline[];
}
