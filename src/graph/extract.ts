/** @file Cuts a sub-graph between given values out of a graph: dead code elimination and stage extraction are this. */
import { DiffusionPipeError } from '../core/errors.ts';
import type { Graph, Node, Value, ValueName } from './types.ts';

/**
 * The graph that computes `outputs` from `inputs` (and constants). Nodes not needed are left out, and so are inputs that
 * nothing uses unless `keepInputs`. Throws a graph error when an output needs a graph input that is not among `inputs`.
 */
export function extract(
	graph: Graph,
	name: string,
	inputs: readonly ValueName[],
	outputs: readonly ValueName[],
	{ keepInputs = false }: { keepInputs?: boolean } = {},
): Graph {
	const given = new Set(inputs);
	const needed = new Set<ValueName>(outputs);
	const kept: Node[] = [];
	for (let i = graph.nodes.length - 1; i >= 0; i--) {
		const node = graph.nodes[i]!;
		if (!node.outputs.some((o) => needed.has(o) && !given.has(o))) continue;
		kept.push(node);
		for (const input of node.inputs) if (input !== '') needed.add(input);
	}
	kept.reverse();
	const used = new Set<ValueName>(outputs);
	for (const node of kept) for (const i of node.inputs) if (i !== '') used.add(i);
	const free = new Set(graph.inputs);
	for (const u of used) {
		if (free.has(u) && !given.has(u))
			throw new DiffusionPipeError('graph', `needs input ${u}, which is not given`, { place: `graph ${name}` });
	}
	const values = new Map<ValueName, Value>();
	const note = (v: ValueName) => values.set(v, graph.values.get(v)!);
	const keptInputs = inputs.filter((v) => keepInputs || used.has(v));
	keptInputs.forEach(note);
	const constants = new Map([...graph.constants].filter(([v]) => used.has(v) && !given.has(v)));
	for (const v of constants.keys()) note(v);
	for (const node of kept) for (const o of node.outputs) if (!given.has(o)) note(o);
	// A node kept for one output may also make a value that is given from outside; the given one wins under its name.
	const nodes = kept.map((node) => renameGiven(node, given, values, graph));
	return { name, inputs: keptInputs, outputs: [...outputs], nodes, values, constants };
}

function renameGiven(node: Node, given: ReadonlySet<ValueName>, values: Map<ValueName, Value>, graph: Graph): Node {
	if (!node.outputs.some((o) => given.has(o))) return node;
	const outputs = node.outputs.map((o) => {
		if (!given.has(o)) return o;
		let shadow = `${o}/again` as ValueName;
		while (graph.values.has(shadow)) shadow = `${shadow}/again` as ValueName;
		values.set(shadow, { ...graph.values.get(o)!, name: shadow });
		return shadow;
	});
	return { ...node, outputs };
}

/** Dead code elimination: the same graph without nodes and constants that no output needs. Inputs stay. */
export function deadCode(graph: Graph): Graph {
	return extract(graph, graph.name, graph.inputs, graph.outputs, { keepInputs: true });
}
