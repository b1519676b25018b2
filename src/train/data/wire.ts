/** @file What the loader and its worker thread say to each other. */
import { DiffusionPipeError, type ErrorKind, type ErrorParts } from '../../core/errors.ts';
import type { BatchOptions } from './batches.ts';
import type { DataOptions } from './index.ts';
import type { Batch, DataSetInfo } from './types.ts';

/** What the worker is started with. */
export interface WorkerStart {
	readonly data: DataOptions;
	readonly batches: BatchOptions;
	readonly cacheBytes: number;
	readonly decoders: number;
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

/** An error as plain data: a message between threads keeps no classes. */
export interface PackedError {
	readonly kind: ErrorKind;
	readonly what: string;
	readonly parts: ErrorParts;
}

/** An error to send. What is no DiffusionPipeError becomes one of kind 'internal'. */
export function packError(error: unknown): PackedError {
	if (!(error instanceof DiffusionPipeError)) {
		return {
			kind: 'internal',
			what: error instanceof Error ? (error.stack ?? error.message) : String(error),
			parts: { place: 'data worker' },
		};
	}
	const { cause: _, ...parts } = error.parts;
	const what = error.message.slice(parts.place.length + 2).split('\n', 1)[0]!;
	return { kind: error.kind, what, parts };
}

/** The error that was sent. */
export function unpackError({ kind, what, parts }: PackedError): DiffusionPipeError {
	return new DiffusionPipeError(kind, what, parts);
}
