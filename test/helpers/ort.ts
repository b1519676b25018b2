/** @file Runs a graph once on ONNX Runtime in this thread, for comparison with the reference interpreter. */
import type { Tensor } from '../../src/core/tensor.ts';
import { sharedEnvironment } from '../../src/engine/local/engine.ts';
import { addressOf, copyOut, createSession, releaseValue, type SessionOptions, tensorOver, typeOf } from '../../src/engine/local/native.ts';
import { writeOnnx } from '../../src/graph/onnx/index.ts';
import type { Graph, ValueName } from '../../src/graph/types.ts';

/** Every output of `graph` by name, computed by ONNX Runtime. Throws its error when it refuses the graph or fails. */
export function runOnOrt(graph: Graph, feeds: ReadonlyMap<ValueName, Tensor>, options: SessionOptions = {}): Map<ValueName, Tensor> {
	const environment = sharedEnvironment();
	const session = createSession(environment, graph.name, writeOnnx(graph), graph, options);
	const memory: Uint8Array[] = [];
	const inputs = new BigUint64Array(new SharedArrayBuffer(8 * Math.max(1, graph.inputs.length)));
	const outputs = new BigUint64Array(new SharedArrayBuffer(8 * Math.max(1, graph.outputs.length)));
	try {
		graph.inputs.forEach((name, i) => {
			const t = feeds.get(name)!;
			// Shared memory does not move, unlike small typed arrays.
			const bytes = new Uint8Array(new SharedArrayBuffer(Math.max(1, t.data.byteLength)));
			bytes.set(new Uint8Array(t.data.buffer, t.data.byteOffset, t.data.byteLength));
			memory.push(bytes);
			inputs[i] = tensorOver(environment, addressOf(bytes), t);
		});
		session.run(inputs, outputs);
		return new Map(
			graph.outputs.map((name, i): [ValueName, Tensor] => {
				const type = typeOf(outputs[i]!);
				return [name, { ...type, data: copyOut(outputs[i]!, type) }];
			}),
		);
	} finally {
		for (const value of [...inputs, ...outputs]) if (value !== 0n) releaseValue(value);
		session.release();
	}
}
