/** @file Gradient of attention: a pass over the weights of every query and key is what costs, so as much as can be is done per query. */
import { swapLast } from '../ops/product.ts';
import type { Graph, Node, Value, ValueName } from '../types.ts';
import { type Rewriting, rewrite } from './rewrite.ts';

/** Keys per number of a value from which passes over the weights saved outweigh what is added to queries and values. */
const leastKeys = 3;

/**
 * For weights p = softmax(scores) and o = p v, the gradient of the scores is p (dp - sum(p dp)) with dp = do v^T. The sum over keys equals
 * sum(do o) over the width of a value (Dao et al., 2205.14135, appendix B.2), and taking it away is one more column of the product:
 * [do, sum(do o)] [v, -1]^T. This leaves one pass over the weights of four.
 */
export function leanSoftmaxGradients(graph: Graph): Graph {
	const products = new Map(graph.nodes.flatMap((n) => (n.op === 'MatMul' ? [[n.inputs.join(), n] as const] : [])));
	const turned = new Map(graph.nodes.flatMap((n) => (n.op === 'Transpose' ? [[n.inputs[0] as string, n] as const] : [])));
	return rewrite(graph, (node, r) => {
		const found = node.op === 'Mul' ? weightsGradient(node, r) : undefined;
		const forward = found && products.get(`${found.p.name},${found.v.name}`);
		if (!found || !forward) return undefined;
		const { g } = r;
		const { p, v, dOut } = found;
		const [keys, width] = v.shape.slice(-2) as [number, number];
		if (keys < leastKeys * width || p.shape.length !== v.shape.length) return undefined;
		const along = alongValues(r, dOut, r.value(forward.outputs[0]!), turned);
		const minus = g.expand(g.scalar(-1, v.dtype), v.shape.with(-1, 1));
		const shifted = g.matMul(g.concat([dOut, along], -1), swapLast(g, g.concat([v, minus], -1)));
		return [g.mul(p, shifted)];
	});
}

/** The parts of p (dp - sum(p dp)) with dp = dOut v^T, when `node` is that product over the last axis. */
function weightsGradient(node: Node, r: Rewriting): { readonly p: Value; readonly v: Value; readonly dOut: Value } | undefined {
	const [p, difference] = node.inputs as [ValueName, ValueName];
	const softmax = r.producer(p);
	const sub = r.producer(difference);
	if (softmax?.op !== 'Softmax' || sub?.op !== 'Sub') return undefined;
	const [dp, sum] = sub.inputs as [ValueName, ValueName];
	const reduce = r.producer(sum);
	const product = reduce?.op === 'ReduceSum' ? r.producer(reduce.inputs[0]!) : undefined;
	const matMul = r.producer(dp);
	if (product?.op !== 'Mul' || product.inputs.join() !== `${dp},${p}` || matMul?.op !== 'MatMul') return undefined;
	const { axis = -1 } = softmax.attributes as { axis?: number };
	const weights = r.value(p);
	if (axis !== -1 && axis !== weights.shape.length - 1) return undefined;
	const [dOut, transposed] = matMul.inputs as [ValueName, ValueName];
	const transpose = r.producer(transposed);
	if (transpose?.op !== 'Transpose') return undefined;
	const v = r.value(transpose.inputs[0] as ValueName);
	const rank = v.shape.length;
	const swapped = [...Array(rank - 2).keys(), rank - 1, rank - 2].join();
	return String(transpose.attributes.perm) === swapped ? { p: weights, v, dOut: r.value(dOut) } : undefined;
}

/** sum(dOut out) over the last axis, which stays; where heads were brought back behind tokens, taken there, for that is the layout that is kept. */
function alongValues(r: Rewriting, dOut: Value, out: Value, turned: ReadonlyMap<string, Node>): Value {
	const { g } = r;
	const sum = (a: Value, b: Value): Value => g.reduceSum(g.mul(a, b), [-1]);
	const [back, there] = [r.producer(dOut.name), turned.get(out.name)];
	const perm = back?.op === 'Transpose' ? (back.attributes.perm as readonly number[] | undefined) : undefined;
	const inverse = there?.attributes.perm as readonly number[] | undefined;
	const last = out.shape.length - 1;
	if (!back || !there || !perm || !inverse || perm[last] !== last || !perm.every((axis, i) => inverse[axis] === i)) return sum(dOut, out);
	return g.transpose(sum(r.value(back.inputs[0] as ValueName), r.value(there.outputs[0]!)), perm);
}
