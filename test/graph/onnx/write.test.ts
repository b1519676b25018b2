/** @file What we write, as ONNX Runtime and the ONNX project's own protobuf schema see it. */
import onnxProto from 'onnx-proto';
import { InferenceSession, Tensor as OrtTensor } from 'onnxruntime-node';
import { describe, expect, it } from 'vitest';
import { DiffusionPipeError } from '../../../src/core/errors.ts';
import { tensor, zeros } from '../../../src/core/tensor.ts';
import { createBuilder } from '../../../src/graph/builder.ts';
import { writeOnnx } from '../../../src/graph/onnx/index.ts';
import type { Graph, Node, ValueName } from '../../../src/graph/types.ts';
import { image, mlp, sample } from './fixtures.ts';

const decode = (graph: Graph, options = {}) => {
	const model = onnxProto.onnx.ModelProto.decode(writeOnnx(graph, options));
	return onnxProto.onnx.ModelProto.toObject(model, { longs: Number, bytes: Array, defaults: false });
};

const run = async (graph: Graph, feeds: Record<string, OrtTensor>, options = {}) => {
	const session = await InferenceSession.create(writeOnnx(graph, options), { logSeverityLevel: 3 });
	try {
		return await session.run(feeds);
	} finally {
		await session.release();
	}
};

const float32 = (values: number[], dims: number[]) => new OrtTensor('float32', Float32Array.from(values), dims);

describe('the protobuf schema of the ONNX project', () => {
	it('finds the model, its nodes and its types', () => {
		const { graph, ...model } = decode(mlp(), { metadata: { author: 'me' } });
		expect(model).toEqual({
			irVersion: 10,
			producerName: 'diffusionpipe',
			opsetImport: [{ domain: '', version: 21 }],
			metadataProps: [{ key: 'author', value: 'me' }],
		});
		const info = (name: string, dims: number[]) => ({
			name,
			type: { tensorType: { elemType: 1, shape: { dim: dims.map((dimValue) => ({ dimValue })) } } },
		});
		expect(graph.name).toBe('mlp');
		expect(graph.input).toEqual([info('x', [2, 3])]);
		expect(graph.output).toEqual([info('Softmax_5', [2, 2])]);
		expect(graph.node).toEqual([
			{
				name: 'fc1/Gemm_0',
				opType: 'Gemm',
				input: ['x', 'fc1.weight', 'fc1.bias'],
				output: ['fc1/Gemm_0'],
				attribute: [
					{ name: 'transB', i: 1, type: 2 },
					{ name: 'alpha', f: 0.5, type: 1 },
				],
			},
			{
				name: 'norm/LayerNormalization_1',
				opType: 'LayerNormalization',
				input: ['fc1/Gemm_0', 'norm.weight'],
				output: ['norm/LayerNormalization_1'],
				attribute: [
					{ name: 'axis', i: -1, type: 2 },
					{ name: 'epsilon', f: Math.fround(1e-5), type: 1 },
				],
			},
			{ name: 'fc2/MatMul_2', opType: 'MatMul', input: ['norm/LayerNormalization_1', 'fc2.weight'], output: ['fc2/MatMul_4'] },
			{
				name: 'Softmax_3',
				opType: 'Softmax',
				input: ['fc2/MatMul_4'],
				output: ['Softmax_5'],
				attribute: [{ name: 'axis', i: 1, type: 2 }],
			},
		]);
	});

	it('finds the bytes of constants', () => {
		const weight = sample('float32', [4, 2], 5);
		const found = decode(mlp()).graph.initializer.find((t: { name: string }) => t.name === 'fc2.weight');
		expect(found).toEqual({ name: 'fc2.weight', dims: [4, 2], dataType: 1, rawData: [...new Uint8Array(weight.data.buffer)] });
	});

	it('finds strings and lists of integers', () => {
		const nodes = decode(image()).graph.node;
		expect(nodes[0].attribute).toEqual([
			{ name: 'strides', ints: [1, 1], type: 7 },
			{ name: 'pads', ints: [1, 1, 1, 1], type: 7 },
		]);
		expect(nodes[1].attribute).toEqual([{ name: 'approximate', s: [...new TextEncoder().encode('tanh')], type: 3 }]);
	});

	it('finds the fill of ConstantOfShape in a tensor', () => {
		const g = createBuilder('fill');
		const [y] = g.emit('ConstantOfShape', [g.ints([2, 3])], { value: 7, dtype: 7 });
		const [node] = decode(g.finish([y!])).graph.node;
		const value = { dims: [1], dataType: 7, rawData: [7, 0, 0, 0, 0, 0, 0, 0] };
		expect(node.attribute).toEqual([{ name: 'value', t: value, type: 4 }]);
	});

	it('finds types of intermediate values when asked', () => {
		expect(decode(mlp()).graph.valueInfo).toBeUndefined();
		const names = decode(mlp(), { valueInfo: true }).graph.valueInfo.map((v: { name: string }) => v.name);
		expect(names).toEqual(['fc1/Gemm_0', 'norm/LayerNormalization_1', 'fc2/MatMul_4']);
	});
});

describe('outputs nobody reads', () => {
	it('are left out where the operator lets them', () => {
		const g = createBuilder('norms');
		const x = g.input('x', 'float32', [2, 4]);
		const { y, invStdDev } = g.layerNorm(x, g.constant(sample('float32', [4])), undefined, 1e-5);
		const [first] = g.split(x, [1, 3], 1);
		const graph = g.finish([g.add(y, invStdDev), first!]);
		const [norm, split] = decode(graph).graph.node;
		expect(norm.output).toEqual([y.name, '', invStdDev.name]);
		expect(split.output).toHaveLength(2);
		expect(decode(graph, { dropUnusedOutputs: false }).graph.node[0].output.filter(Boolean)).toHaveLength(3);
	});
});

it('leaves out constants that no node reads', () => {
	const g = createBuilder('unused');
	const x = g.input('x', 'float32', [2]);
	g.constant(sample('float32', [1000]), 'forgotten');
	expect(decode(g.finish([g.neg(x)])).graph.initializer).toBeUndefined();
});

it('imports the operators of ONNX Runtime only where a node is one', () => {
	const g = createBuilder('quick');
	const x = g.input('x', 'float32', [2]);
	const [y] = g.emit('QuickGelu', [x], {});
	const { opsetImport, graph } = decode(g.finish([y!]));
	expect(opsetImport).toEqual([
		{ domain: '', version: 21 },
		{ domain: 'com.microsoft', version: 1 },
	]);
	expect(graph.node[0].domain).toBe('com.microsoft');
});

describe('ONNX Runtime', () => {
	it('computes a product, a sum and a softmax as by hand', async () => {
		const g = createBuilder('small');
		const x = g.input('x', 'float32', [1, 2]);
		const w = g.constant(tensor('float32', [2, 2], [1, 2, 3, 4]), 'w');
		const sum = g.add(g.matMul(x, w), g.constant(tensor('float32', [2], [0.5, -0.5]), 'b'));
		const y = g.softmax(g.mul(sum, 0));
		const { [sum.name]: s, [y.name]: p } = await run(g.finish([sum, y]), { x: float32([1, 10], [1, 2]) });
		expect([...(s!.data as Float32Array)]).toEqual([31.5, 41.5]);
		expect([...(p!.data as Float32Array)]).toEqual([0.5, 0.5]);
	});

	it('computes a normalisation, with and without its unused outputs', async () => {
		const g = createBuilder('norm');
		const x = g.input('x', 'float32', [1, 2]);
		const { y } = g.layerNorm(x, g.constant(tensor('float32', [2], [2, 2]), 'scale'), undefined, 0);
		for (const dropUnusedOutputs of [true, false]) {
			const out = await run(g.finish([y]), { x: float32([3, 5], [1, 2]) }, { dropUnusedOutputs });
			expect([...(out[y.name]!.data as Float32Array)]).toEqual([-2, 2]);
		}
	});

	it('fills, splits, casts and indexes as by hand', async () => {
		const g = createBuilder('moves');
		const x = g.input('x', 'int64', [4]);
		const [head, tail] = g.split(x, [1, 3], 0);
		const [fill] = g.emit('ConstantOfShape', [g.ints([3])], { value: 2, dtype: 7 });
		const y = g.cast(g.mul(tail!, fill!), 'float32');
		const out = await run(g.finish([head!, y]), { x: new OrtTensor('int64', BigInt64Array.of(1n, 2n, 3n, -4n), [4]) });
		expect([...(out[head!.name]!.data as BigInt64Array)]).toEqual([1n]);
		expect([...(out[y.name]!.data as Float32Array)]).toEqual([4, 6, -8]);
	});

	it('takes the whole of the image graph', async () => {
		const graph = image();
		const out = await run(graph, { x: float32(new Array(32).fill(0), [1, 2, 4, 4]) }, { valueInfo: true });
		expect(graph.outputs.map((name) => out[name]!.dims)).toEqual([[4], [8, 4]]);
		expect([...(out[graph.outputs[0]!]!.data as Float32Array)]).toEqual([0, 0, 0, 0]);
	});
});

describe('what cannot be written', () => {
	const withNode = (change: Partial<Node>): Graph => {
		const graph = mlp();
		return { ...graph, nodes: [{ ...graph.nodes[0]!, ...change }, ...graph.nodes.slice(1)] };
	};
	it('an attribute the operator does not know', () => {
		expect(() => writeOnnx(withNode({ attributes: { tranB: 1 } }))).toThrow(
			'fc1/Gemm_0: attribute tranB cannot be written\n  expected: alpha, beta, transA, transB\n  found: tranB',
		);
	});
	it('an attribute of another kind', () => {
		expect(() => writeOnnx(withNode({ attributes: { transB: 'yes' } }))).toThrow('expected: a value of kind int\n  found: "yes"');
		expect(() => writeOnnx(withNode({ attributes: { transB: 0.5 } }))).toThrow(DiffusionPipeError);
	});
	it('a fill without a type', () => {
		const x = 'x' as ValueName;
		const fill: Node = { op: 'ConstantOfShape', inputs: [x], outputs: ['y' as ValueName], attributes: { dtype: 99 }, scope: 'here' };
		expect(() => writeOnnx({ ...mlp(), nodes: [fill] })).toThrow('here/ConstantOfShape_0: the fill cannot be written');
	});
	it('more than protobuf can hold', () => {
		const g = createBuilder('huge');
		const block = zeros('float32', [2 ** 22]);
		const sum = Array.from({ length: 130 }, (_, i) => g.constant(block, `w${i}`)).reduce((a, b) => g.add(a, b));
		expect(() => writeOnnx(g.finish([sum]))).toThrow(
			/the model is too large for an ONNX file\n {2}expected: at most 2147483647 bytes\n {2}found: 21\d{8} bytes/,
		);
	});
});
