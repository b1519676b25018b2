/** @file Checks of passes: same inputs and outputs, same numbers by the reference interpreter. */
import { expect } from 'vitest';
import { makeArray, sizeOf, type Tensor, writeElement } from '../../src/core/tensor.ts';
import { createBuilder, type GraphBuilder } from '../../src/graph/builder.ts';
import { checkGraph } from '../../src/graph/check.ts';
import { evaluateGraph } from '../../src/graph/evaluate.ts';
import type { Pass } from '../../src/graph/passes/index.ts';
import { type Graph, type Value, type ValueName, valueNamed } from '../../src/graph/types.ts';
import { expectClose } from './close.ts';
import { uniformStream } from './random.ts';

/** The graph that `build` makes, and what the pass makes of it, checked to compute the same from random inputs in [-1, 1]. */
export function passed(pass: Pass, build: (g: GraphBuilder) => readonly Value[]): { before: Graph; after: Graph } {
	const g = createBuilder('passed');
	const before = g.finish(build(g));
	const after = checkGraph(pass(before), 'the pass');
	expect(after.inputs).toEqual(before.inputs);
	expect(after.outputs).toEqual(before.outputs);
	const random = uniformStream(7);
	const feeds = new Map<ValueName, Tensor>(
		before.inputs.map((name) => {
			const { dtype, shape } = valueNamed(before, name);
			const data = makeArray(dtype, sizeOf(shape));
			for (let i = 0; i < data.length; i++) writeElement(dtype, data, i, 2 * random() - 1);
			return [name, { dtype, shape, data }];
		}),
	);
	const [wanted, found] = [evaluateGraph(before, feeds), evaluateGraph(after, feeds)];
	for (const name of before.outputs) expectClose(found.get(name)!, wanted.get(name)!, { rtol: 1e-5, atol: 1e-6, what: name });
	return { before, after };
}

/** Operators of a graph in order. */
export function operators(graph: Graph): string[] {
	return graph.nodes.map((n) => n.op);
}
