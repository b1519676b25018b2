/** @file Common sub-expressions: nodes that compute the same thing from the same values become one. */
import type { Graph, Node, ValueName } from '../types.ts';

/** Merges equal nodes (and equal small constants). */
export function commonSubexpressions(graph: Graph): Graph {
	const replaced = new Map<ValueName, ValueName>();
	const resolve = <T extends ValueName | ''>(name: T): T => (replaced.get(name as ValueName) as T | undefined) ?? name;
	const constantKeys = new Map<string, ValueName>();
	for (const [name, t] of graph.constants) {
		if (t.data.length > 64) continue;
		const key = `${t.dtype}[${t.shape}]${Array.from(t.data as ArrayLike<number>, (v) => (Object.is(v, -0) ? '-0' : String(v)))}`;
		const first = constantKeys.get(key);
		if (first) replaced.set(name, first);
		else constantKeys.set(key, name);
	}
	const seen = new Map<string, Node>();
	const nodes: Node[] = [];
	const outputs = new Set(graph.outputs);
	for (const node of graph.nodes) {
		const inputs = node.inputs.map(resolve);
		const key = `${node.op}(${inputs})${JSON.stringify(node.attributes)}#${node.outputs.length}`;
		const first = seen.get(key);
		// A graph output keeps its own name, so its node must stay.
		if (first && !node.outputs.some((o) => outputs.has(o))) {
			node.outputs.forEach((o, i) => {
				replaced.set(o, first.outputs[i]!);
			});
			continue;
		}
		const kept = { ...node, inputs };
		if (!first) seen.set(key, kept);
		nodes.push(kept);
	}
	const constants = new Map([...graph.constants].filter(([n]) => !replaced.has(n) || outputs.has(n)));
	const values = new Map([...graph.values].filter(([n]) => !replaced.has(n) || outputs.has(n)));
	return { ...graph, nodes, constants, values };
}
