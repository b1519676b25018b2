/** @file Entry of the measuring thread. */
import { parentPort, workerData } from 'node:worker_threads';
import { byteSize } from '../../core/tensor.ts';
import type { MeasureResult, MeasureSetup } from './measure.ts';
import { addressOf, createSession, releaseValue, tensorOver } from './native.ts';

const { environment, graphs, repeats, threads } = workerData as MeasureSetup;

function measure({ model, inputTypes }: MeasureSetup['graphs'][number]): number {
	const session = createSession(environment, 'measured graph', model.model, model, { threads });
	const memory = inputTypes.map((type) => {
		const bytes = new Uint8Array(new SharedArrayBuffer(Math.max(8, byteSize(type))));
		// Ordinary magnitudes: zeros would make exponentials and divisions take unusual paths.
		if (type.dtype === 'float32') {
			const numbers = new Float32Array(bytes.buffer);
			for (let i = 0; i < numbers.length; i++) numbers[i] = ((i * 2654435761) % 1000) / 1000 - 0.5;
		}
		return bytes;
	});
	const inputs = new BigUint64Array(new SharedArrayBuffer(8 * Math.max(1, inputTypes.length)));
	inputTypes.forEach((type, i) => {
		inputs[i] = tensorOver(environment, addressOf(memory[i]!), type);
	});
	const outputs = new BigUint64Array(new SharedArrayBuffer(8 * Math.max(1, model.outputs.length)));
	const times: number[] = [];
	for (let r = 0; r <= repeats; r++) {
		outputs.fill(0n);
		const start = performance.now();
		session.run(inputs, outputs);
		times.push(performance.now() - start);
		for (const value of outputs.subarray(0, model.outputs.length)) releaseValue(value);
	}
	for (const value of inputs.subarray(0, inputTypes.length)) releaseValue(value);
	session.release();
	const warm = times.slice(1).sort((a, b) => a - b);
	return warm[warm.length >> 1]!;
}

const answer = (message: MeasureResult) => parentPort!.postMessage(message);
try {
	const ms = graphs.map((graph, i) => {
		const time = measure(graph);
		answer({ measured: i + 1 });
		return time;
	});
	answer({ ms });
} catch (error) {
	answer({ error: error instanceof Error ? error.message : String(error) });
}
