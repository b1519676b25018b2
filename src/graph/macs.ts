/** @file Multiply-accumulates of a graph: what its matrix products and convolutions cost. */
import { readAttributes } from './op.ts';
import { ops } from './ops/index.ts';
import { type Graph, valueNamed } from './types.ts';

/** Multiply-accumulates of one run of `graph`, from shapes alone (FLOPs are twice that; elementwise work is not counted). */
export function macsOf(graph: Graph): number {
	let total = 0;
	for (const node of graph.nodes) {
		const def = ops[node.op];
		if (!def.macs) continue;
		const types = (names: readonly string[]) =>
			names.map((n) => (n === '' ? undefined : valueNamed(graph, n as (typeof node.outputs)[number])));
		total += def.macs(
			types(node.inputs),
			node.outputs.map((n) => valueNamed(graph, n)),
			readAttributes(node.op, def.attributes, node.attributes),
		);
	}
	return total;
}
