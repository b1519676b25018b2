/** @file What the training of a cascade takes and tells. */
import type { Evaluated } from '../evaluation.ts';
import type { TrainEvent } from '../events.ts';
import type { FrozenText } from '../frozen.ts';
import type { DrawnSamples } from '../trainer.ts';
import type { CascadeConfig, PerBackbone } from './config.ts';
import type { CascadeModels } from './models.ts';

/** Draws with both models; given by the caller, since drawing is a layer above training. */
export type CascadeDrawer = (
	cascade: CascadeModels,
	/** Current (averaged) values of a parameter. */
	weights: PerBackbone<(name: string) => Float32Array>,
	config: CascadeConfig,
	text: FrozenText | undefined,
) => Promise<DrawnSamples>;

/** A step of both. */
export interface CascadeStep {
	readonly kind: 'step';
	/** Steps done, from 1. */
	readonly step: number;
	readonly maxSteps: number;
	readonly losses: PerBackbone<number>;
	readonly gradNorms: PerBackbone<number>;
	readonly stepMs: number;
}

/** The losses of both on held-out examples. */
export interface CascadeEval {
	readonly kind: 'eval';
	readonly step: number;
	/** Each over the quantiles of the noise levels of its own. */
	readonly base: Evaluated;
	readonly super_resolution: Evaluated;
	readonly ms: number;
}

export type CascadeEvent =
	| Extract<TrainEvent, { readonly kind: 'note' | 'plan' | 'resumed' | 'sample' | 'checkpoint' | 'skipped' }>
	| CascadeStep
	| CascadeEval;

export interface CascadeOptions {
	/** Goes on from the newest checkpoint of the run, beginning anew when there is none, or from that of a step: its path, of either model. */
	readonly resume?: string | boolean;
	/** Resumes although the config differs from that of the checkpoint. */
	readonly allowConfigChange?: boolean;
	/** Removes a run that is in the output folder already. */
	readonly overwrite?: boolean;
	/** When aborted, the step under way is finished and a checkpoint written. */
	readonly signal?: AbortSignal;
	readonly onEvent?: (event: CascadeEvent) => void;
	/** Draws the samples; without it no pictures are made. */
	readonly samples?: CascadeDrawer;
	/** Milliseconds of a steady clock. Default performance.now. */
	readonly clock?: () => number;
}

/** How a cascade's training ended. */
export interface CascadeResult {
	/** Steps done, over all resumes. */
	readonly step: number;
	/** False when the run was asked to stop before its last step. */
	readonly finished: boolean;
	/** Of the last step. */
	readonly losses: PerBackbone<number>;
	readonly seconds: number;
	readonly skippedFiles: number;
	/** A pipeline of the base with averaged weights, and in its folder `super_resolution` the other; once finished. */
	readonly pipeline: string | undefined;
	readonly samples: readonly string[];
}
