/** @file Gradients of attention and SiLU in fewer passes: the same numbers, the operators left, and what stays as it is. */
import { describe, expect, it } from 'vitest';
import { createBuilder, type GraphBuilder } from '../../../src/graph/builder.ts';
import { differentiate, gradients } from '../../../src/graph/differentiate.ts';
import { simplify } from '../../../src/graph/passes/index.ts';
import { leanSiluGradients } from '../../../src/graph/passes/silu-gradient.ts';
import { leanSoftmaxGradients } from '../../../src/graph/passes/softmax-gradient.ts';
import type { Value } from '../../../src/graph/types.ts';
import { attention } from '../../../src/nn/attention.ts';
import { silu } from '../../../src/nn/embeddings.ts';
import { operators, passed } from '../../helpers/passes.ts';

/** The function's output and the gradients of its inputs, weighted by an input of the output's shape. */
const withGradients =
	(build: (g: GraphBuilder) => { readonly y: Value; readonly wrt: readonly Value[] }) =>
	(g: GraphBuilder): Value[] => {
		const { y, wrt } = build(g);
		const found = gradients(g, [{ value: y, grad: g.input('dy', 'float32', y.shape) }], wrt);
		return [y, ...found.map((v) => v!)];
	};

const count = (ops: readonly string[], op: string) => ops.filter((o) => o === op).length;

describe('gradients of attention', () => {
	const heads = (tokens: number, keys: number, width: number) =>
		withGradients((g) => {
			const q = g.input('q', 'float32', [2, tokens, 3 * width]);
			const [k, v] = [g.input('k', 'float32', [2, keys, 3 * width]), g.input('v', 'float32', [2, keys, 3 * width])];
			return { y: attention(g, q, k, v, 3), wrt: [q, k, v] };
		});

	it('take one pass over the weights, and the sums from the layout in which heads are together', () => {
		const { before, after } = passed((graph) => leanSoftmaxGradients(simplify(graph)), heads(5, 12, 2));
		const [old, now] = [operators(simplify(before)), operators(after)];
		const onWeights = (graph: typeof after, op: string) =>
			graph.nodes.filter((n) => n.op === op && graph.values.get(n.outputs[0]!)!.shape.join() === '2,3,5,12').length;
		expect([onWeights(before, 'Mul'), onWeights(before, 'Sub')]).toEqual([2, 1]);
		expect([onWeights(after, 'Mul'), onWeights(after, 'Sub')]).toEqual([1, 0]);
		expect(count(now, 'MatMul')).toBe(count(old, 'MatMul'));
		const sum = after.nodes.find((n) => n.op === 'ReduceSum')!;
		expect(after.values.get(sum.inputs[0]! as never)!.shape).toEqual([2, 5, 3, 2]);
	});

	it('also where heads are not exchanged with tokens', () => {
		const { after } = passed(
			leanSoftmaxGradients,
			withGradients((g) => {
				const [s, v] = [g.input('s', 'float32', [2, 4, 9]), g.input('v', 'float32', [2, 9, 3])];
				return { y: g.matMul(g.softmax(s), v), wrt: [s, v] };
			}),
		);
		expect(operators(after)).toContain('Concat');
	});

	it('stay for few keys, for softmax over another axis, and for weights that are read elsewhere', () => {
		const same = (build: (g: GraphBuilder) => Value[]) => {
			const { before, after } = passed(leanSoftmaxGradients, build);
			expect(operators(after)).toEqual(operators(before));
		};
		same(heads(5, 4, 2));
		const of = (axis: number, more: boolean) =>
			withGradients((g) => {
				const [s, v] = [g.input('s', 'float32', [2, 9, 9]), g.input('v', 'float32', [2, 9, 3])];
				const p = g.softmax(s, axis);
				const y = g.matMul(p, v);
				return { y: more ? g.concat([y, p], -1) : y, wrt: [s, v] };
			});
		same(of(1, false));
		same(of(-1, true));
	});
});

describe('gradients of SiLU', () => {
	const function_ = withGradients((g) => {
		const x = g.input('x', 'float32', [3, 5]);
		return { y: silu(g, x), wrt: [x] };
	});

	it('take four passes', () => {
		const { before, after } = passed(leanSiluGradients, function_);
		expect(operators(before)).toEqual(['Sigmoid', 'Mul', 'Mul', 'Mul', 'Mul', 'Sub', 'Mul', 'Add']);
		expect(operators(after)).toEqual(['Sigmoid', 'Mul', 'Sub', 'Mul', 'Add', 'Mul']);
	});

	it('stay where the sigmoid is of something else', () => {
		const { before, after } = passed(
			leanSiluGradients,
			withGradients((g) => {
				const [x, z] = [g.input('x', 'float32', [4]), g.input('z', 'float32', [4])];
				return { y: g.mul(x, g.sigmoid(z)), wrt: [x, z] };
			}),
		);
		expect(operators(after)).toEqual(operators(before));
	});

	it('read the output that the next layer keeps, so that the input is not saved', () => {
		const g = createBuilder('layer');
		const [x, w] = [g.input('x', 'float32', [4, 6]), g.input('w', 'float32', [6, 6])];
		const inner = g.mul(x, 2);
		const graph = g.finish([g.matMul(silu(g, inner), w)]);
		const { saved } = differentiate(graph, { outputs: graph.outputs, inputs: [x.name], weights: [w.name] });
		expect(saved).not.toContain(inner.name);
		expect(saved).toHaveLength(2);
	});
});
