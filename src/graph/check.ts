/** @file The graph checker, run after every pass: names, order, types and shapes must hold together. */
import { DiffusionPipeError } from '../core/errors.ts';
import { describe, toNumbers } from '../core/tensor.ts';
import { inferNode } from './infer.ts';
import type { Graph, ValueName } from './types.ts';

/** Returns `graph` unchanged, or throws a graph error naming the node and the rule broken. `after` says which pass made it. */
export function checkGraph(graph: Graph, after: string): Graph {
	const fail = (what: string, at: string): never => {
		throw new DiffusionPipeError('graph', what, { place: `graph ${graph.name} after ${after}: ${at}` });
	};
	const defined = new Set<ValueName>();
	const define = (name: ValueName, at: string) => {
		if (defined.has(name)) fail(`value ${name} is defined twice`, at);
		const value = graph.values.get(name);
		if (!value) return fail(`value ${name} has no type`, at);
		if (value.name !== name) fail(`value ${name} is filed under another name`, at);
		defined.add(name);
		return value;
	};
	for (const name of graph.inputs) define(name, 'inputs');
	for (const [name, t] of graph.constants) {
		const value = define(name, 'constants');
		if (describe(value) !== describe(t)) fail(`constant ${name} is ${describe(t)}, its value says ${describe(value)}`, 'constants');
	}
	graph.nodes.forEach((node, index) => {
		const at = `node ${index} ${node.op}${node.scope ? ` in ${node.scope}` : ''}`;
		for (const i of node.inputs) if (i !== '' && !defined.has(i)) fail(`input ${i} is not defined before it`, at);
		const types = inferNode({
			op: node.op,
			inputs: node.inputs.map((i) => (i === '' ? undefined : graph.values.get(i)!)),
			attributes: node.attributes,
			outputCount: node.outputs.length,
			place: `graph ${graph.name} after ${after}: ${node.scope || index}`,
			constantOf: (v) => {
				const t = graph.constants.get(v.name);
				return t && toNumbers(t);
			},
		});
		node.outputs.forEach((name, i) => {
			const value = define(name, at);
			if (describe(value) !== describe(types[i]!))
				fail(`output ${name} is filed as ${describe(value)}, inferred ${describe(types[i]!)}`, at);
		});
	});
	graph.outputs.forEach((name, i) => {
		if (!defined.has(name)) fail(`output ${name} is not defined`, 'outputs');
		if (graph.outputs.indexOf(name) !== i) fail(`output ${name} is listed twice`, 'outputs');
	});
	return graph;
}
