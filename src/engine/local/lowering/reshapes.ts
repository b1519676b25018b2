/** @file Reshapes in a row become one, so that other passes see what a view is of. */
import { sameShape } from '../../../core/tensor.ts';
import { rewrite } from '../../../graph/passes/rewrite.ts';
import type { Graph, ValueName } from '../../../graph/types.ts';

/** Reshape(Reshape(x)) to one Reshape, or to x where it has the shape already. */
export function mergeReshapes(graph: Graph): Graph {
	return rewrite(graph, (node, r) => {
		if (node.op !== 'Reshape') return undefined;
		const inner = r.producer(node.inputs[0]!);
		const x = r.value((inner?.op === 'Reshape' ? inner.inputs[0] : node.inputs[0]) as ValueName);
		const { shape } = r.value(node.outputs[0]!);
		if (sameShape(x.shape, shape)) return [x];
		return inner?.op === 'Reshape' ? [r.g.reshape(x, shape)] : undefined;
	});
}
