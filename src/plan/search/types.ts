/** @file What a search is asked and what it answers. */
import type { FillResult } from '../fill/types.ts';
import type { PipelineTimeline } from '../pipeline/types.ts';
import type { WarmUp } from '../schedules/types.ts';
import type { Baseline, Layout, Placement, Plan } from '../types.ts';

/** What is fixed beforehand; everything absent is searched. */
export interface SearchOptions {
	/** Pipeline stages of a backbone. */
	readonly stages?: number;
	readonly microBatches?: number;
	/** At least so many stages of a backbone; 1 unless given. */
	readonly minStages?: number;
	/** Name as in the table of schedules. */
	readonly schedule?: string;
	readonly warmup?: WarmUp;
	/** Copies of the whole pipeline. */
	readonly pipelines?: number;
	readonly recompute?: boolean;
	readonly placement?: Placement;
	readonly layout?: Layout;
	/** False: frozen work runs before the pipeline, on all devices at once. */
	readonly fill?: boolean;
	/** How hard the filling is improved beyond the greedy; 1 unless given, 0 for the first round: shares, the greedy and a few list schedules. */
	readonly effort?: number;
	/** False: no table of baselines. */
	readonly baselines?: boolean;
}

/** One alternative that was looked at, for the table. */
export interface SearchRow {
	readonly ranks: number;
	readonly stages: number;
	readonly pipelines: number;
	readonly microBatches: number;
	readonly schedule: string;
	readonly warmup: WarmUp;
	readonly placement: Placement;
	readonly layout: Layout;
	readonly recompute: boolean;
	/** Devices per stage of the first backbone. */
	readonly replicas: readonly number[];
	readonly iterationMs: number;
	readonly imagesPerSecond: number;
	readonly unfilled: number;
	readonly filled: number;
	readonly peakBytes: number;
	readonly lowerBoundMs: number;
}

export interface SearchResult {
	readonly plan: Plan;
	/** One iteration of one pipeline, rank by rank, and what fills it (devices numbered within the pipeline), for pictures. */
	readonly timeline: PipelineTimeline;
	readonly fill: FillResult;
	/** The same of an iteration with the extra sweep of self-conditioning, where some have one. */
	readonly sweep?: { readonly timeline: PipelineTimeline; readonly fill: FillResult };
	/** Best first: the plan's own row, then others of different shape. */
	readonly rows: readonly SearchRow[];
	readonly baselines: readonly Baseline[];
}

/** A plan with the timelines that it predicts. */
export type PlanAnswer = Pick<SearchResult, 'plan' | 'timeline' | 'fill' | 'sweep'>;
