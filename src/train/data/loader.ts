/** @file Batches by step, loaded and decoded in a thread of their own, some steps ahead. */
import { Worker } from 'node:worker_threads';
import { DiffusionPipeError } from '../../core/errors.ts';
import { unpackError } from '../../core/packed-error.ts';
import { workerEntry } from '../../core/worker-entry.ts';
import type { BatchOptions } from './batches.ts';
import type { Holdout } from './holdout.ts';
import type { DataOptions } from './index.ts';
import type { Batch, DataSetInfo } from './types.ts';
import type { FromWorker, ToWorker, WorkerStart } from './wire.ts';

/** How to load. */
export interface LoaderOptions extends BatchOptions {
	/** Steps to prepare beyond the one asked for. Default 2. */
	readonly prefetch?: number;
	/** Bytes of decoded pixels to keep, so that small data sets are decoded once. Default 256 MiB. */
	readonly cacheBytes?: number;
	/** Images decoded at the same time. Default 2. */
	readonly decoders?: number;
	/** Takes a part of the data set alone. */
	readonly holdout?: Holdout | undefined;
	/** Told once of each file that cannot be used. */
	readonly onBroken?: (name: string, reason: string) => void;
}

/** Where batches come from. */
export interface Loader {
	readonly info: DataSetInfo;
	/** Files found broken so far; the batches have others in their place. */
	readonly skipped: number;
	/**
	 * The batch of a step, any step in any order; the steps after it are prepared meanwhile. The batch is the caller's: asking again gives a new copy.
	 * Rejects when every file is broken, after `close`, and when the worker thread has died.
	 */
	batchAt(step: number): Promise<Batch>;
	/** Ends the worker thread; batches still waited for are rejected. */
	close(): Promise<void>;
}

/**
 * Opens a data set in a worker thread.
 * @param entry the compiled file of the worker
 * @throws DiffusionPipeError when the data set cannot be opened (see `openDataSet`) or an option is out of range
 */
export async function openLoader(
	data: DataOptions,
	options: LoaderOptions,
	entry: URL = workerEntry(import.meta.url, './data-worker.js'),
): Promise<Loader> {
	const { seed, batchSize, flip = false, prefetch = 2, cacheBytes = 2 ** 28, decoders = 2, holdout, onBroken = () => {} } = options;
	atLeast('batchSize', batchSize, 1);
	atLeast('prefetch', prefetch, 0);
	atLeast('decoders', decoders, 1);
	const start: WorkerStart = { data, batches: { seed, batchSize, flip }, cacheBytes, decoders, holdout };
	const worker = new DataWorker(entry, start, prefetch, onBroken);
	const info = await worker.ready;
	return {
		info,
		get skipped() {
			return worker.skipped;
		},
		batchAt: (step) => worker.batchAt(step),
		close: () => worker.close(),
	};
}

/** How long a thread may take to finish the image it is decoding when it is closed. */
const closeTimeoutMs = 5000;

interface Waiting {
	readonly resolve: (batch: Batch) => void;
	readonly reject: (error: DiffusionPipeError) => void;
}

class DataWorker {
	readonly ready: Promise<DataSetInfo>;
	skipped = 0;
	readonly #worker: Worker;
	readonly #prefetch: number;
	readonly #onBroken: (name: string, reason: string) => void;
	readonly #waiting = new Map<number, Waiting>();
	/** Batches prepared or being prepared, by step. */
	readonly #ahead = new Map<number, Promise<Batch>>();
	readonly #exited: Promise<void>;
	#opened: { resolve: (info: DataSetInfo) => void; reject: (error: DiffusionPipeError) => void } | undefined;
	/** Why no more batches can be had. */
	#end: DiffusionPipeError | undefined;
	#nextId = 0;

	constructor(entry: URL, start: WorkerStart, prefetch: number, onBroken: (name: string, reason: string) => void) {
		this.#prefetch = prefetch;
		this.#onBroken = onBroken;
		this.ready = new Promise((resolve, reject) => {
			this.#opened = { resolve, reject };
		});
		// The parent's flags are not for this thread: `--input-type`, for one, would stop it from starting.
		this.#worker = new Worker(entry, { workerData: start, name: 'data', execArgv: [] });
		this.#worker.on('message', (message: FromWorker) => this.#receive(message));
		this.#worker.on('error', (error) => this.#stop(died(error instanceof Error ? error.message : String(error), error)));
		this.#worker.on('messageerror', (error) => this.#stop(died(error.message, error)));
		this.#exited = new Promise((resolve) => {
			this.#worker.on('exit', (code) => {
				this.#stop(died(`exit code ${code}`));
				resolve();
			});
		});
	}

	batchAt(step: number): Promise<Batch> {
		if (this.#end !== undefined) return Promise.reject(this.#end);
		const batch = this.#ahead.get(step) ?? this.#request(step);
		this.#ahead.delete(step);
		for (const other of this.#ahead.keys()) {
			if (other < step || other > step + this.#prefetch) this.#ahead.delete(other);
		}
		for (let next = step + 1; next <= step + this.#prefetch; next++) {
			if (!this.#ahead.has(next)) this.#ahead.set(next, this.#request(next));
		}
		return batch;
	}

	async close(): Promise<void> {
		this.#stop(new DiffusionPipeError('internal', 'the loader was closed', { place: 'data loader' }));
		this.#send({ type: 'close' });
		const timer = setTimeout(() => void this.#worker.terminate(), closeTimeoutMs);
		await this.#exited;
		clearTimeout(timer);
	}

	#request(step: number): Promise<Batch> {
		const id = this.#nextId++;
		const batch = new Promise<Batch>((resolve, reject) => {
			this.#waiting.set(id, { resolve, reject });
		});
		// A batch prepared ahead may fail before anyone asks for it; whoever asks still gets the error.
		batch.catch(() => {});
		this.#worker.ref();
		this.#send({ type: 'batch', id, step });
		return batch;
	}

	#send(message: ToWorker): void {
		this.#worker.postMessage(message);
	}

	#receive(message: FromWorker): void {
		switch (message.type) {
			case 'ready':
				this.#opened?.resolve(message.info);
				this.#opened = undefined;
				break;
			case 'refused':
				this.#stop(unpackError(message.error));
				break;
			case 'broken':
				this.skipped++;
				this.#onBroken(message.name, message.reason);
				break;
			case 'batch':
				this.#waiting.get(message.id)?.resolve(message.batch);
				this.#waiting.delete(message.id);
				break;
			case 'failed':
				this.#waiting.get(message.id)?.reject(unpackError(message.error));
				this.#waiting.delete(message.id);
				break;
		}
		// An idle loader that nobody closed does not keep the process alive.
		if (this.#waiting.size === 0 && this.#opened === undefined) this.#worker.unref();
	}

	/** Rejects all that is waited for, now and later; the first reason given counts. */
	#stop(reason: DiffusionPipeError): void {
		this.#end ??= reason;
		this.#opened?.reject(this.#end);
		this.#opened = undefined;
		for (const { reject } of this.#waiting.values()) reject(this.#end);
		this.#waiting.clear();
		this.#ahead.clear();
	}
}

function died(found: string, cause?: unknown): DiffusionPipeError {
	return new DiffusionPipeError('engine', 'the thread that loads data has stopped', { place: 'data loader', found, cause });
}

function atLeast(option: string, value: number, least: number): void {
	if (Number.isSafeInteger(value) && value >= least) return;
	throw new DiffusionPipeError('config', 'has a wrong value', {
		place: option,
		expected: `a whole number from ${least}`,
		found: String(value),
	});
}
