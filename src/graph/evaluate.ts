/** @file Reference interpreter: runs a graph on host tensors through the operator table. For folding and for tests, not for speed. */
import { DiffusionPipeError } from '../core/errors.ts';
import { describe, type Tensor } from '../core/tensor.ts';
import { readAttributes } from './op.ts';
import { ops } from './ops/index.ts';
import { type Graph, type Node, type ValueName, valueNamed } from './types.ts';

/** Outputs of one node given its input tensors; `place` is what errors call it. */
export function evaluateNode(
	graph: Graph,
	node: Node,
	inputs: readonly (Tensor | undefined)[],
	place: string = node.scope || graph.name,
): readonly Tensor[] {
	const def = ops[node.op];
	const fail = (what: string): never => {
		throw new DiffusionPipeError('graph', what, { place: `${place}: ${node.op}` });
	};
	return def.evaluate({
		inputs,
		attributes: readAttributes(node.op, def.attributes, node.attributes),
		outputs: node.outputs.map((name) => valueNamed(graph, name)),
		input: (i) => inputs[i] ?? fail(`input ${i} is missing`),
		fail,
	});
}

/** Every output of the graph, by name. Throws a graph error when a feed is missing or has another type or shape. */
export function evaluateGraph(graph: Graph, feeds: ReadonlyMap<ValueName, Tensor>): Map<ValueName, Tensor> {
	const env = new Map<ValueName, Tensor>(graph.constants);
	for (const name of graph.inputs) {
		const t = feeds.get(name);
		const want = describe(valueNamed(graph, name));
		if (!t || describe(t) !== want) {
			throw new DiffusionPipeError('graph', `input ${name} does not fit`, {
				place: `graph ${graph.name}`,
				expected: want,
				found: t ? describe(t) : 'nothing',
			});
		}
		env.set(name, t);
	}
	for (const node of graph.nodes) {
		const results = evaluateNode(
			graph,
			node,
			node.inputs.map((i) => (i === '' ? undefined : env.get(i))),
		);
		node.outputs.forEach((name, i) => {
			env.set(name, results[i]!);
		});
	}
	return new Map(graph.outputs.map((name) => [name, env.get(name)!]));
}
