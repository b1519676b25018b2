/** @file Parts a graph that runs many times into what stays the same, to be computed once, and the rest. */
import { extract } from './extract.ts';
import type { Graph, ValueName } from './types.ts';

/** A graph in two parts. */
export interface Hoisted {
	/** From the invariant inputs to every value that `each` reads of them; without outputs when there is none. */
	readonly once: Graph;
	/** Inputs: those of the graph that are not invariant, those that are and are still read, and the outputs of `once`. */
	readonly each: Graph;
}

/** Parts `graph` by which nodes depend on `invariant` inputs and constants alone. Outputs of the graph are made by `each`, all of them. */
export function hoist(graph: Graph, invariant: readonly ValueName[]): Hoisted {
	const same = new Set<ValueName>([...invariant, ...graph.constants.keys()]);
	const outputs = new Set(graph.outputs);
	const isOnce = graph.nodes.map((node) => {
		const once = node.inputs.every((i) => i === '' || same.has(i)) && !node.outputs.some((o) => outputs.has(o));
		if (once) for (const o of node.outputs) same.add(o);
		return once;
	});
	const made = new Set(graph.nodes.flatMap((node, i) => (isOnce[i] ? node.outputs : [])));
	const read = new Set(graph.nodes.flatMap((node, i) => (isOnce[i] ? [] : node.inputs)));
	const handed = [...made].filter((name) => read.has(name));
	const varying = graph.inputs.filter((name) => !invariant.includes(name));
	return {
		once: extract(graph, `${graph.name}.once`, invariant, handed, { keepInputs: true }),
		each: extract(graph, `${graph.name}.each`, [...varying, ...invariant.filter((name) => read.has(name)), ...handed], graph.outputs, {
			keepInputs: true,
		}),
	};
}
