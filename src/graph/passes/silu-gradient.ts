/** @file Gradient of x sigmoid(x) in fewer passes over memory than the gradients of its two operators make. */
import type { Graph, Node, ValueName } from '../types.ts';
import { type Rewriting, rewrite } from './rewrite.ts';

/**
 * With s = sigmoid(x) and y = x s, the gradient of x is dy (s + y (1 - s)): four passes where dy s + dy x s (1 - s) has six, and from y, which the next
 * layer keeps as a rule, in place of x.
 */
export function leanSiluGradients(graph: Graph): Graph {
	const products = new Map(graph.nodes.flatMap((n) => (n.op === 'Mul' ? [[n.inputs.join(), n.outputs[0]!] as const] : [])));
	return rewrite(graph, (node, r) => {
		const found = node.op === 'Add' ? siluGradient(node, r) : undefined;
		const output = found && products.get(`${found.x},${found.s}`);
		if (!found || !output) return undefined;
		const { g, value } = r;
		const [dy, s, y] = [value(found.dy), value(found.s), value(output)];
		return [g.mul(dy, g.add(s, g.mul(y, g.sub(1, s))))];
	});
}

/** The parts of dy s + ((dy x) s) (1 - s) with s = sigmoid(x), when `node` is that sum. */
function siluGradient(node: Node, r: Rewriting): { readonly dy: ValueName; readonly x: ValueName; readonly s: ValueName } | undefined {
	const factors = (name: ValueName | '' | undefined): readonly ValueName[] => {
		const producer = r.producer(name ?? '');
		return producer?.op === 'Mul' ? (producer.inputs as readonly ValueName[]) : [];
	};
	const [left, right] = node.inputs as [ValueName, ValueName];
	const [dy, s] = factors(left);
	const [scaled, rest] = factors(right);
	const [product, again] = factors(scaled);
	const [flow, x] = factors(product);
	const sigmoid = r.producer(s ?? '');
	const sub = r.producer(rest ?? '');
	if (sigmoid?.op !== 'Sigmoid' || sub?.op !== 'Sub' || sub.inputs[1] !== s || again !== s || flow !== dy) return undefined;
	if (dy === undefined || s === undefined || x === undefined || sigmoid.inputs[0] !== x) return undefined;
	const one = r.g.constantOf(r.value(sub.inputs[0] as ValueName));
	return one?.length === 1 && one[0] === 1 ? { dy, x, s } : undefined;
}
