/** @file Every operator case computes the same on ONNX Runtime as in the reference interpreter, forward and gradient. */
import { describe, expect, it } from 'vitest';
import { type Tensor, toNumbers, describe as typeText } from '../../../src/core/tensor.ts';
import { createBuilder } from '../../../src/graph/builder.ts';
import { checkGraph } from '../../../src/graph/check.ts';
import { gradients } from '../../../src/graph/differentiate.ts';
import { evaluateGraph } from '../../../src/graph/evaluate.ts';
import { ops } from '../../../src/graph/ops/index.ts';
import { isFloat } from '../../../src/graph/ops/shared.ts';
import type { Graph, ValueName } from '../../../src/graph/types.ts';
import { expectClose } from '../../helpers/close.ts';
import { randomInputs } from '../../helpers/gradcheck.ts';
import type { OpCase } from '../../helpers/op-case.ts';
import { opCases } from '../../helpers/op-cases.ts';
import { runOnOrt } from '../../helpers/ort.ts';

function forwardOf(c: OpCase, inputs: readonly Tensor[]): Graph {
	const g = createBuilder(`${c.op}`);
	const outputs = [c.build(g, ...inputs.map((t, i) => g.input(`x${i}`, t.dtype, t.shape)))].flat();
	return checkGraph(g.finish(outputs), 'building');
}

/** The gradients of every float input for given gradients of every float output; undefined when none flows. */
function gradientOf(forward: Graph): Graph | undefined {
	const g = createBuilder(`${forward.name} gradient`, forward);
	const outputs = [...new Set(forward.outputs)].map((name) => forward.values.get(name)!).filter((v) => isFloat(v.dtype));
	const seeds = outputs.map((value, i) => ({ value, grad: g.input(`grad${i}`, value.dtype, value.shape) }));
	const wanted = forward.inputs.map((name) => forward.values.get(name)!).filter((v) => isFloat(v.dtype));
	const found = gradients(g, seeds, wanted).flatMap((v) => (v ? [v] : []));
	return found.length > 0 ? checkGraph(g.finish([...new Map(found.map((v) => [v.name, v])).values()]), 'gradients') : undefined;
}

/** Runs `graph` with and without ONNX Runtime's own rewriting. Gradients fed in are random. */
function compare(graph: Graph, inputs: readonly Tensor[]): void {
	const fed = graph.inputs.slice(inputs.length).map((name) => graph.values.get(name)!);
	const grads = randomInputs(
		fed.map((v) => ({ shape: v.shape, dtype: v.dtype, range: [0.5, 1.5] })),
		'float32',
		7,
	);
	const feeds = new Map<ValueName, Tensor>(graph.inputs.map((name, i) => [name, [...inputs, ...grads][i]!]));
	const reference = evaluateGraph(graph, feeds);
	// Differences of large inputs (a mean far from zero) are no more exact than the inputs.
	const scale = Math.max(1, ...inputs.flatMap((t) => (isFloat(t.dtype) ? toNumbers(t).map(Math.abs) : [])));
	for (const optimization of [0, 99] as const) {
		const found = runOnOrt(graph, feeds, { optimization });
		for (const name of graph.outputs) {
			const [a, b] = [found.get(name)!, reference.get(name)!];
			expect(typeText(a)).toBe(typeText(b));
			const tolerance = isFloat(b.dtype) ? { rtol: 2e-5, atol: 2e-6 * scale } : { rtol: 0, atol: 1e-30 };
			expectClose(a, b, { ...tolerance, what: `${graph.name}: ${name}` });
		}
	}
}

describe('ONNX Runtime agrees with the reference interpreter', () => {
	for (const c of opCases) {
		it(`${c.op}: ${c.name}`, () => {
			const inputs = randomInputs(c.inputs, 'float32');
			const forward = forwardOf(c, inputs);
			compare(forward, inputs);
			if (c.gradient === false || typeof ops[c.op].vjp !== 'function') return;
			const gradient = gradientOf(forward);
			if (gradient) compare(gradient, inputs);
		});
	}
});
