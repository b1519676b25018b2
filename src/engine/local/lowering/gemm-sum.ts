/** @file Sums of matrix products: the addend becomes the product's third operand, which saves a pass over the result. */
import { sameShape } from '../../../core/tensor.ts';
import { type Rewriting, rewrite } from '../../../graph/passes/rewrite.ts';
import type { Graph, Node, Value, ValueName } from '../../../graph/types.ts';

/**
 * Add(c, Gemm(a, b)) to Gemm(a, b, c), also through a Reshape of the product, and also where the product is a MatMul of two matrices. The product must be read
 * nowhere else and c must have its shape. In place: ONNX Runtime copies c to the result before it multiplies, so an accumulator may be both.
 */
export function gemmSum(graph: Graph): Graph {
	return rewrite(graph, (node, r) => {
		if (node.op !== 'Add') return undefined;
		const [left, right] = node.inputs as [ValueName, ValueName];
		return summed(r, left, right) ?? summed(r, right, left);
	});
}

/** The sum of c and the product `name`, when that can be one Gemm. */
function summed(r: Rewriting, c: ValueName, name: ValueName): readonly Value[] | undefined {
	const { g } = r;
	const whole = r.value(name);
	const addend = r.value(c);
	if (!sameShape(whole.shape, addend.shape) || r.uses(name) > 1) return undefined;
	const producer = r.producer(name);
	const viewed = producer?.op === 'Reshape' ? (producer.inputs[0] as ValueName) : name;
	if (viewed !== name && r.uses(viewed) > 1) return undefined;
	const product = r.producer(viewed);
	if (!product || !isBareProduct(r, product)) return undefined;
	const [a, b] = product.inputs.map((i) => r.value(i as ValueName)) as [Value, Value];
	const { shape } = r.value(viewed);
	const attributes = { ...product.attributes, beta: 1 };
	const result = g.one('Gemm', [a, b, sameShape(addend.shape, shape) ? addend : g.reshape(addend, shape)], attributes);
	return [sameShape(shape, whole.shape) ? result : g.reshape(result, whole.shape)];
}

/** A product of two matrices with nothing added. */
function isBareProduct(r: Rewriting, { op, inputs }: Node): boolean {
	if (op === 'Gemm') return inputs.length < 3 || inputs[2] === '';
	return op === 'MatMul' && inputs.every((i) => r.value(i as ValueName).shape.length === 2);
}
