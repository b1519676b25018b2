/** @file Transposes: two in a row become one, and batched products transpose the smaller of two operands. */
import { sizeOf } from '../../../core/tensor.ts';
import { swapLast } from '../../../graph/ops/product.ts';
import { type Rewriting, rewrite } from '../../../graph/passes/rewrite.ts';
import type { Graph, Node, Value, ValueName } from '../../../graph/types.ts';

/** The permutation of a Transpose. */
export const permOf = (node: Node, rank: number): readonly number[] =>
	(node.attributes.perm as readonly number[] | undefined) ?? [...Array(rank).keys()].reverse();

/** Transpose(Transpose(x)) to one Transpose, or to x. */
export function mergeTransposes(graph: Graph): Graph {
	return rewrite(graph, (node, r) => {
		const inner = node.op === 'Transpose' ? r.producer(node.inputs[0]!) : undefined;
		if (inner?.op !== 'Transpose') return undefined;
		const x = r.value(inner.inputs[0] as ValueName);
		const [first, second] = [permOf(inner, x.shape.length), permOf(node, x.shape.length)];
		const perm = second.map((p) => first[p]!);
		return [perm.every((p, i) => p === i) ? x : r.g.transpose(x, perm)];
	});
}

/** A row length in elements at which the rows of P fall on the same places of the first-level cache when it is the second operand. */
const aliased = 512;

/**
 * MatMul(P^T, x) to MatMul(x^T, P)^T for batched matrices where P has more elements than x and the result together. ONNX Runtime multiplies by a transposed
 * first operand at half its rate (35 to 52 of 100 GFLOP/s for P [8, 6, 256, 256]), and transposes of large tensors cost as much as products. Not where rows
 * of P alias: as the second operand it is then a sixth slower than as a transposed first (P [2, 8, 1024, 1024]).
 */
export function transposeSmallOperand(graph: Graph): Graph {
	return rewrite(graph, (node, r) => {
		if (node.op !== 'MatMul' || node.inputs.length !== 2) return undefined;
		const [left, right] = node.inputs as [ValueName, ValueName];
		const p = transposed(r, left);
		const x = r.value(right);
		const y = r.value(node.outputs[0]!);
		if (!p || p.shape.length < 3 || sizeOf(p.shape) <= sizeOf(x.shape) + sizeOf(y.shape)) return undefined;
		if (p.shape.at(-1)! % aliased === 0) return undefined;
		// A transposed x is used as it was before.
		return [swapLast(r.g, r.g.matMul(transposed(r, right) ?? swapLast(r.g, x), p))];
	});
}

/** The value of which `name` is the transpose over the last two axes. */
function transposed(r: Rewriting, name: ValueName): Value | undefined {
	const node = r.producer(name);
	if (node?.op !== 'Transpose') return undefined;
	const x = r.value(node.inputs[0] as ValueName);
	const rank = x.shape.length;
	const swap = [...Array(rank - 2).keys(), rank - 1, rank - 2];
	return permOf(node, rank).every((axis, i) => axis === swap[i]) ? x : undefined;
}
