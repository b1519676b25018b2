/** @file What the loader and its worker thread say to each other. */
import type { PackedError } from '../../core/packed-error.ts';
import type { BatchOptions } from './batches.ts';
import type { Holdout } from './holdout.ts';
import type { DataOptions } from './index.ts';
import type { Batch, DataSetInfo } from './types.ts';

/** What the worker is started with. */
export interface WorkerStart {
	readonly data: DataOptions;
	readonly batches: BatchOptions;
	readonly cacheBytes: number;
	readonly decoders: number;
	/** The part of the data set to take; all of it unless given. */
	readonly holdout?: Holdout | undefined;
}

/** From the loader to the worker. */
export type ToWorker = { readonly type: 'batch'; readonly id: number; readonly step: number } | { readonly type: 'close' };

/** From the worker to the loader: `ready` or `refused` once, then an answer to every request and reports in between. */
export type FromWorker =
	| { readonly type: 'ready'; readonly info: DataSetInfo }
	| { readonly type: 'refused'; readonly error: PackedError }
	| { readonly type: 'batch'; readonly id: number; readonly batch: Batch }
	| { readonly type: 'failed'; readonly id: number; readonly error: PackedError }
	| { readonly type: 'broken'; readonly name: string; readonly reason: string };
