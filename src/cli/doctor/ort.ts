/** @file Checks of ONNX Runtime: that it loads, computes right, and how fast one core multiplies matrices. */
import { tensor, toNumbers } from '../../core/tensor.ts';
import { modelOf, sharedEnvironment } from '../../engine/local/engine.ts';
import { measureGraphs } from '../../engine/local/measure.ts';
import { addressOf, copyOut, createSession, releaseValue, tensorOver } from '../../engine/local/native.ts';
import { openOrt } from '../../engine/local/ort.ts';
import { createBuilder } from '../../graph/builder.ts';
import { evaluateGraph } from '../../graph/evaluate.ts';
import { type Graph, valueNamed } from '../../graph/types.ts';
import type { Finding } from './index.ts';

/** Loads the library and compares a small graph with our own arithmetic. */
export function checkOrt(): Finding {
	const { path, version } = openOrt();
	const difference = largestDifference();
	const values = { path, version, difference };
	if (difference < 1e-5) return { status: 'ok', text: `${version}, computes right (${path})`, values };
	return {
		status: 'fail',
		text: `${version} computes wrong numbers: off by ${difference} (${path})`,
		hint: 'npm install onnxruntime-node again, or set DIFFUSIONPIPE_ORT to another build',
		values,
	};
}

/** Largest difference between ONNX Runtime and the reference interpreter on softmax(x w) of 8 x 16 by 16 x 8 elements. */
function largestDifference(): number {
	const g = createBuilder('doctor');
	const [x, w] = [g.input('x', 'float32', [8, 16]), g.input('w', 'float32', [16, 8])];
	const graph = g.finish([g.softmax(g.matMul(x, w))]);
	const feeds = new Map(
		graph.inputs.map((name) => {
			const { shape } = valueNamed(graph, name);
			return [
				name,
				tensor(
					'float32',
					shape,
					Array.from({ length: 128 }, (_, i) => Math.sin(i * 7 + shape[0]!)),
				),
			] as const;
		}),
	);
	const wanted = toNumbers(evaluateGraph(graph, feeds).get(graph.outputs[0]!)!);
	const found = runOnce(
		graph,
		graph.inputs.map((name) => feeds.get(name)!.data),
	);
	return wanted.reduce((worst, value, i) => Math.max(worst, Math.abs(value - found[i]!)), 0);
}

function runOnce(graph: Graph, data: readonly Float32Array[]): Float32Array {
	const environment = sharedEnvironment();
	const model = modelOf(graph);
	const session = createSession(environment, 'doctor', model.model, model);
	// Native memory must not move: shared buffers never do.
	const memory = data.map((values) => {
		const shared = new Float32Array(new SharedArrayBuffer(values.byteLength));
		shared.set(values);
		return shared;
	});
	const inputs = new BigUint64Array(new SharedArrayBuffer(8 * data.length));
	const outputs = new BigUint64Array(new SharedArrayBuffer(8));
	try {
		memory.forEach((values, i) => {
			inputs[i] = tensorOver(environment, addressOf(values), valueNamed(graph, graph.inputs[i]!));
		});
		session.run(inputs, outputs);
		return copyOut(outputs[0]!, model.outputTypes[0]!) as Float32Array;
	} finally {
		for (const value of [...inputs, ...outputs]) if (value !== 0n) releaseValue(value);
		session.release();
	}
}

/** Below this a core is an old or an emulated one. */
const slow = 5;
const side = 512;

/** Median of 25 products of 512 x 512 matrices on one core: under a second even at 10 GFLOP/s. */
export async function checkSpeed(): Promise<Finding> {
	const g = createBuilder('speed');
	const [a, b] = [g.input('a', 'float32', [side, side]), g.input('b', 'float32', [side, side])];
	const [ms] = await measureGraphs([g.finish([g.matMul(a, b)])], { repeats: 25 });
	const gflops = (2 * side ** 3) / (ms! * 1e6);
	return {
		status: gflops < slow ? 'warn' : 'ok',
		text: `${gflops.toFixed(gflops < 10 ? 1 : 0)} GFLOP/s of float32 matrix products on one core`,
		...(gflops < slow ? { hint: 'training will be slow here: is the processor emulated, or busy?' } : {}),
		values: { gflops },
	};
}
