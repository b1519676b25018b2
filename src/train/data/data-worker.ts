/** @file The thread that loads and decodes: opens the data set it was started with and answers requests for batches in order. */
import { parentPort, workerData } from 'node:worker_threads';
import sharp from 'sharp';
import { DiffusionPipeError } from '../../core/errors.ts';
import { packError } from '../../core/packed-error.ts';
import { batchMaker } from './batches.ts';
import { partOf } from './holdout.ts';
import { openDataSet } from './index.ts';
import type { Batch } from './types.ts';
import type { FromWorker, ToWorker, WorkerStart } from './wire.ts';

if (parentPort === null) throw new DiffusionPipeError('internal', 'runs only as a worker thread', { place: 'data-worker' });
const port = parentPort;
const { data, batches, cacheBytes, decoders, holdout } = workerData as WorkerStart;

// Images are small and `decoders` of them are decoded at once; more threads for each would take cores from the training. Every file is decoded
// once or kept by us, so libvips' own cache would only hold memory.
sharp.concurrency(1);
sharp.cache(false);

const post = (message: FromWorker, transfer: ArrayBuffer[] = []): void => port.postMessage(message, transfer);
const closing = new AbortController();
// Requests may come before the data set is open; a port keeps what arrives until someone listens.
try {
	const whole = await openDataSet(data);
	const dataSet = holdout ? partOf(whole, holdout) : whole;
	const onBroken = (name: string, reason: string): void => post({ type: 'broken', name, reason });
	serve(batchMaker(dataSet, batches, { cacheBytes, decoders, onBroken, signal: closing.signal }));
	const { name, size, channels, height, width, classes, buckets, bucketRunLength, conditioned, licence } = dataSet;
	post({ type: 'ready', info: { name, size, channels, height, width, classes, buckets, bucketRunLength, conditioned, licence } });
} catch (error) {
	post({ type: 'refused', error: packError(error, 'data worker') });
	port.close();
}

function serve(makeBatch: (step: number) => Promise<Batch>): void {
	let last: Promise<void> = Promise.resolve();
	port.on('message', (message: ToWorker) => {
		if (message.type === 'close') {
			closing.abort();
			// The thread ends by itself once nothing is under way; killing it inside sharp could take the process along.
			port.close();
			return;
		}
		const { id, step } = message;
		last = last.then(async () => {
			if (closing.signal.aborted) return;
			try {
				const batch = await makeBatch(step);
				const { images, labels, conditioning } = batch;
				post({ type: 'batch', id, batch }, [images.buffer, labels.buffer, ...(conditioning ? [conditioning.buffer] : [])]);
			} catch (error) {
				post({ type: 'failed', id, error: packError(error, 'data worker') });
			}
		});
	});
}
