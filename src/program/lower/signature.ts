/** @file What a program says of a graph: the types of its inputs and outputs, and the memory it needs beside them. */
import { byteSize, type TypeShape } from '../../core/tensor.ts';
import { type Graph, type ValueName, valueNamed } from '../../graph/types.ts';
import type { GraphSignature } from '../types.ts';

/** Signature of a graph; `workspaceBytes` bounds its inner values from above by what is alive at once in node order. */
export function signatureOf(graph: Graph): GraphSignature {
	const type = (name: ValueName): TypeShape => {
		const { dtype, shape } = valueNamed(graph, name);
		return { dtype, shape };
	};
	return { inputs: graph.inputs.map(type), outputs: graph.outputs.map(type), workspaceBytes: peakBytes(graph) };
}

/** Most bytes of inner values alive at once when nodes run in order and each value is freed after its last use. */
export function peakBytes(graph: Graph): number {
	const last = new Map<ValueName, number>();
	graph.nodes.forEach((node, i) => {
		for (const name of node.inputs) if (name !== '') last.set(name, i);
	});
	const outside = new Set<ValueName>([...graph.inputs, ...graph.outputs, ...graph.constants.keys()]);
	let alive = 0;
	let peak = 0;
	graph.nodes.forEach((node, i) => {
		for (const o of node.outputs) if (!outside.has(o)) alive += byteSize(valueNamed(graph, o));
		peak = Math.max(peak, alive);
		for (const name of new Set(node.inputs)) {
			if (name !== '' && last.get(name) === i && !outside.has(name)) alive -= byteSize(valueNamed(graph, name));
		}
		for (const o of node.outputs) if (!outside.has(o) && !last.has(o)) alive -= byteSize(valueNamed(graph, o));
	});
	return peak;
}
