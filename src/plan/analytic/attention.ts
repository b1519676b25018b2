/** @file Finds attention in a graph, so that it can be counted as the one kernel that accelerators run it as. */
import { sizeOf } from '../../core/tensor.ts';
import { type Graph, type Node, type ValueName, valueNamed } from '../../graph/types.ts';

/** softmax(q k + mask) v: its nodes, what it reads per sample, and what it makes. */
export interface AttentionRegion {
	readonly nodes: readonly Node[];
	/** q, k and v. */
	readonly inputs: readonly ValueName[];
	readonly output: ValueName;
	/** Scores and weights: values that never leave the kernel. */
	readonly inner: readonly ValueName[];
	/** Score product and weighted sum. */
	readonly products: readonly [Node, Node];
}

/** Attention regions of `graph`; `perSample` tells values that depend on the sample from those of parameters alone. */
export function attentionRegions(graph: Graph, perSample: ReadonlySet<ValueName>): AttentionRegion[] {
	const producers = new Map(graph.nodes.flatMap((n) => n.outputs.map((o) => [o, n] as const)));
	const readers = new Map<ValueName, Node[]>();
	for (const node of graph.nodes) {
		for (const input of node.inputs) {
			if (input === '') continue;
			const known = readers.get(input);
			if (known) known.push(node);
			else readers.set(input, [node]);
		}
	}
	const isProduct = (node: Node | undefined): node is Node =>
		node?.op === 'MatMul' && node.inputs.every((i) => i !== '' && perSample.has(i));
	return graph.nodes.flatMap((softmax): AttentionRegion[] => {
		if (softmax.op !== 'Softmax') return [];
		const nodes = [softmax];
		const size = sizeOf(valueNamed(graph, softmax.outputs[0]!).shape);
		let at = producers.get(softmax.inputs[0] as ValueName);
		// A mask or a bias of positions is added on the way.
		while (at?.op === 'Add') {
			nodes.push(at);
			const scores = at.inputs.find((i) => sizeOf(valueNamed(graph, i as ValueName).shape) === size && perSample.has(i as ValueName));
			at = producers.get(scores as ValueName);
		}
		const mixed = readers.get(softmax.outputs[0]!) ?? [];
		if (!isProduct(at) || mixed.length !== 1 || !isProduct(mixed[0])) return [];
		const inner = [at, ...nodes].flatMap((n) => n.outputs);
		return [
			{
				nodes: [at, ...nodes, mixed[0]],
				inputs: [...at.inputs, ...mixed[0].inputs].filter((i): i is ValueName => i !== '' && !inner.includes(i)),
				output: mixed[0].outputs[0]!,
				inner,
				products: [at, mixed[0]],
			},
		];
	});
}
