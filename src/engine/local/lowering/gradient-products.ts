/** @file Weight gradients: products of a transposed matrix, which ONNX Runtime runs slower the more columns the result has. */
import { sizeOf } from '../../../core/tensor.ts';
import { type Rewriting, rewrite } from '../../../graph/passes/rewrite.ts';
import type { Graph, Value, ValueName } from '../../../graph/types.ts';
import { permOf } from './transposes.ts';

/** Columns of the result from which transposing the operand once costs less than what the product does instead: transposing it for every 128 columns. */
const manyColumns = 1024;

/**
 * A row length in elements at which all rows fall on the same places of the first-level cache: a product by such a matrix loses a tenth, as much as the
 * transpose would save. Micro-batches of fewer rows avoid it.
 */
const aliased = 1024;

/**
 * Gemm(A, B) with transA to Gemm(A^T, B), where that pays: A is a view of a transposed tensor whose last axis can stay the last, so that the transpose copies
 * whole runs; or the result has many columns.
 */
export function explicitTransposes(graph: Graph): Graph {
	return rewrite(graph, (node, r) => {
		if (node.op !== 'Gemm' || node.attributes.transA !== 1) return undefined;
		const { g } = r;
		const [a, b, c] = node.inputs.map((name) => (name === '' ? undefined : r.value(name))) as [Value, Value, Value | undefined];
		const [rows, columns] = [a.shape[0]!, r.value(node.outputs[0]!).shape[1]!];
		if (rows % aliased === 0) return undefined;
		const turned = byRuns(r, a) ?? (columns >= manyColumns ? g.transpose(a, [1, 0]) : undefined);
		if (!turned) return undefined;
		return [g.one('Gemm', c ? [turned, b, c] : [turned, b], { ...node.attributes, transA: 0 })];
	});
}

/** A^T made of the tensor that A is a transposed view of, when that moves whole runs of its last axis. */
function byRuns(r: Rewriting, a: Value): Value | undefined {
	const view = r.producer(a.name);
	const transpose = view?.op === 'Reshape' ? r.producer(view.inputs[0]!) : undefined;
	if (transpose?.op !== 'Transpose') return undefined;
	const [x, y] = [r.value(transpose.inputs[0] as ValueName), r.value(transpose.outputs[0]!)];
	const perm = permOf(transpose, x.shape.length);
	const cut = leadingAxes(y, a.shape[0]!);
	if (cut === undefined) return undefined;
	const turned = [...perm.slice(cut), ...perm.slice(0, cut)];
	if (turned.at(-1) !== perm.length - 1) return undefined;
	return r.g.reshape(r.g.transpose(x, turned), [a.shape[1]!, a.shape[0]!]);
}

/** How many axes of `y` in front make up `rows`. */
function leadingAxes(y: Value, rows: number): number | undefined {
	for (let cut = 1; cut < y.shape.length; cut++) if (sizeOf(y.shape.slice(0, cut)) === rows) return cut;
	return undefined;
}
