/** @file The rate at which ONNX Runtime multiplies matrices here: the roof a training step is compared with. */
import { sharedEnvironment } from '../../dist/engine/local/engine.js';
import { addressOf, createSession, releaseValue, tensorOver } from '../../dist/engine/local/native.js';
import { createBuilder } from '../../dist/graph/builder.js';
import { writeOnnx } from '../../dist/graph/onnx/index.js';
import { normalNumbers } from './dit-training.mjs';

/** A float32 product [m, k] x [k, n] in memory already allocated; `once()` runs it and returns GFLOP/s. */
export function openGemm(m, k, n) {
	const g = createBuilder('gemm');
	const graph = g.finish([g.matMul(g.input('a', 'float32', [m, k]), g.input('b', 'float32', [k, n]))]);
	const environment = sharedEnvironment();
	const session = createSession(environment, 'gemm', writeOnnx(graph), { inputs: graph.inputs, outputs: graph.outputs });
	const shapes = [
		[m, k],
		[k, n],
		[m, n],
	];
	const memory = shapes.map((shape, i) => {
		const array = new Float32Array(new SharedArrayBuffer(shape[0] * shape[1] * 4));
		if (i < 2) array.set(normalNumbers(array.length, i + 1));
		return array;
	});
	const values = memory.map((array, i) => tensorOver(environment, addressOf(array), { dtype: 'float32', shape: shapes[i] }));
	const inputs = BigUint64Array.from(values.slice(0, 2));
	const outputs = BigUint64Array.from(values.slice(2));
	return {
		name: `${m}x${k}x${n}`,
		once() {
			const start = performance.now();
			session.run(inputs, outputs);
			return (2 * m * k * n) / (performance.now() - start) / 1e6;
		},
		close() {
			for (const v of values) releaseValue(v);
			session.release();
			return memory.length;
		},
	};
}
