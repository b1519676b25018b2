/** @file Dumps of graphs. */
import { expect, it } from 'vitest';
import { tensor } from '../../src/core/tensor.ts';
import { createBuilder } from '../../src/graph/builder.ts';
import { graphToText } from '../../src/graph/text.ts';
import { mlp } from './onnx/fixtures.ts';

it('writes one line per input, constant, node and output, then the counts', () => {
	expect(graphToText(mlp(), { maxConstant: 3 })).toMatchInlineSnapshot(`
		"graph mlp
		  input x: float32[2,3]
		  const fc1.weight: float32[4,3] = [0, 1.75, 0.75, ...]
		  const fc1.bias: float32[4] = [2.5, 1.5, 0.5, ...]
		  const norm.weight: float32[4] = [1.75, 0.75, 2.5, ...]
		  const fc2.weight: float32[4,2] = [0.5, 2.25, 1.25, ...]
		  fc1/Gemm_0: float32[2,4] = Gemm(x, fc1.weight, fc1.bias) {alpha=0.5, transB=1}  # fc1
		  norm/LayerNormalization_1: float32[2,4], norm/LayerNormalization_2: float32[2,1], norm/LayerNormalization_3: float32[2,1] = LayerNormalization(fc1/Gemm_0, norm.weight) {axis=-1, epsilon=0.00001}  # norm
		  fc2/MatMul_4: float32[2,2] = MatMul(norm/LayerNormalization_1, fc2.weight)  # fc2
		  Softmax_5: float32[2,2] = Softmax(fc2/MatMul_4) {axis=1}
		  output Softmax_5: float32[2,2]
		  4 nodes: Gemm 1, LayerNormalization 1, MatMul 1, Softmax 1
		  4 constants, 112 bytes
		"
	`);
});

it('shows omitted inputs, exact integers and signed zeros', () => {
	const g = createBuilder('odd');
	const x = g.input('x', 'float32', [2]);
	g.constant({ dtype: 'int64', shape: [1], data: BigInt64Array.of(2n ** 63n - 1n) }, 'big');
	g.constant(tensor('float32', [3], [-0, 0.1, 2 ** 24]), 'small');
	g.constant(tensor('bool', [], [1]), 'flag');
	expect(graphToText(g.finish([g.clip(x, undefined, 1)]))).toMatchInlineSnapshot(`
		"graph odd
		  input x: float32[2]
		  const big: int64[1] = [9223372036854775807]
		  const small: float32[3] = [-0, 0.1, 16777216]
		  const flag: bool[] = [1]
		  const const_0: float32[] = [1]
		  Clip_1: float32[2] = Clip(x, _, const_0)
		  output Clip_1: float32[2]
		  1 node: Clip 1
		  4 constants, 25 bytes
		"
	`);
	expect(graphToText(g.finish([]), { maxConstant: 0 })).toContain('const small: float32[3] = [...]\n');
});

it('is the same for attributes given in another order', () => {
	const graph = mlp();
	const turned = graph.nodes.map((n) => ({ ...n, attributes: Object.fromEntries(Object.entries(n.attributes).reverse()) }));
	expect(graphToText({ ...graph, nodes: turned })).toBe(graphToText(graph));
});

it('says so when a graph has no nodes', () => {
	const g = createBuilder('empty');
	const x = g.input('x', 'int64', []);
	expect(graphToText(g.finish([x]))).toBe('graph empty\n  input x: int64[]\n  output x: int64[]\n  0 nodes\n  0 constants, 0 bytes\n');
});
