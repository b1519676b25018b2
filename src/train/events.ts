/** @file What a training run tells while it goes on. */

export type TrainEvent =
	/** Something slow begins or is worth knowing. */
	| { readonly kind: 'note'; readonly text: string }
	/** How the work is laid out: layers and measured times per stage. */
	| {
			readonly kind: 'plan';
			readonly devices: number;
			readonly stages: readonly { readonly layers: readonly string[]; readonly ms: number }[];
			readonly text: string;
			/** Height and width of the images it is for, `384x640`, in runs of several sizes. */
			readonly size?: string | undefined;
	  }
	| { readonly kind: 'resumed'; readonly step: number; readonly path: string }
	| {
			readonly kind: 'step';
			/** Steps done, from 1. */
			readonly step: number;
			readonly maxSteps: number;
			readonly loss: number;
			readonly lr: number;
			readonly gradNorm: number;
			readonly stepMs: number;
			readonly imagesPerSecond: number;
			readonly secondsLeft: number;
	  }
	/** The loss on held-out examples. */
	| {
			readonly kind: 'eval';
			readonly step: number;
			/** Mean over the quantiles. */
			readonly loss: number;
			readonly quantiles: readonly { readonly quantile: number; readonly loss: number }[];
			readonly samples: number;
			readonly ms: number;
	  }
	| { readonly kind: 'sample'; readonly step: number; readonly path: string }
	| { readonly kind: 'checkpoint'; readonly step: number; readonly path: string }
	/** A data file that could not be used. */
	| { readonly kind: 'skipped'; readonly name: string; readonly reason: string }
	| { readonly kind: 'done'; readonly result: TrainResult };

/** How a run ended. */
export interface TrainResult {
	/** Steps done, over all resumes. */
	readonly step: number;
	/** False when the run was asked to stop before its last step. */
	readonly finished: boolean;
	readonly loss: number;
	readonly seconds: number;
	readonly imagesPerSecond: number;
	readonly skippedFiles: number;
	/** Newest checkpoint. */
	readonly checkpoint: string;
	/** Folder of the finished pipeline (moving-average weights), once finished. */
	readonly pipeline: string | undefined;
	readonly samples: readonly string[];
}
