/** @file Reading models as exporters make them: symbols, arithmetic on shapes, forms of data, and what is refused. */
import { describe, expect, it } from 'vitest';
import { type DType, type Tensor, tensor, toNumbers } from '../../../src/core/tensor.ts';
import { onnxElementType } from '../../../src/graph/builder/elementwise.ts';
import { createBuilder } from '../../../src/graph/builder.ts';
import { checkGraph } from '../../../src/graph/check.ts';
import { evaluateGraph } from '../../../src/graph/evaluate.ts';
import { type ReadOnnxOptions, readOnnx, writeOnnx } from '../../../src/graph/onnx/index.ts';
import type { Graph, ValueName } from '../../../src/graph/types.ts';
import { expectClose } from '../../helpers/close.ts';
import { mlp, sample } from './fixtures.ts';
import { encodeModel, initializer, input, type ModelSpec, node, runOrt } from './models.ts';

const read = (spec: ModelSpec, options: ReadOnnxOptions = {}): Graph => readOnnx(encodeModel(spec), { place: 'model.onnx', ...options });
const refusal = (spec: ModelSpec, options: ReadOnnxOptions = {}): string => {
	try {
		read(spec, options);
	} catch (e) {
		return (e as Error).message;
	}
	throw new Error('the model was read');
};
const name = (s: string) => s as ValueName;
const ints = (...values: number[]) => tensor('int64', [values.length], values);
const constant = (output: string, t: Tensor) => node('Constant', [], [output], { value: initializer('', t) });

/** Attention heads split off with shapes computed in the graph, as PyTorch exports `x.view(b, s, heads, -1).transpose(1, 2)[:, :, :s - 1]`. */
const heads: ModelSpec = {
	opset: 11,
	inputs: [input('x', 1, ['batch', 'tokens', 8])],
	nodes: [
		node('Shape', ['x'], ['shape']),
		constant('zero', tensor('int64', [], [0])),
		constant('one', tensor('int64', [], [1])),
		node('Gather', ['shape', 'zero'], ['b'], { axis: 0 }),
		node('Gather', ['shape', 'one'], ['s'], { axis: 0 }),
		node('Unsqueeze', ['b'], ['b1'], { axes: [0] }),
		node('Unsqueeze', ['s'], ['s1'], { axes: [0] }),
		constant('heads', ints(2)),
		constant('rest', ints(-1)),
		node('Concat', ['b1', 's1', 'heads', 'rest'], ['view'], { axis: 0 }),
		node('Reshape', ['x', 'view'], ['split'], {}, { name: '/attn/heads.0/Reshape' }),
		node('Transpose', ['split'], ['turned'], { perm: [0, 2, 1, 3] }, { name: '/attn/heads.0/Transpose' }),
		node('Sub', ['s', 'one'], ['end']),
		node('Unsqueeze', ['end'], ['ends'], { axes: [0] }),
		constant('starts', ints(0)),
		constant('axes', ints(2)),
		node('Slice', ['turned', 'starts', 'ends', 'axes'], ['y'], {}, { name: '/attn/Slice' }),
	],
	outputs: ['y'],
};

describe('shapes', () => {
	const dims = { batch: 2, tokens: 3 };

	it('computed in the graph become constants', async () => {
		const graph = checkGraph(read(heads, { dims }), 'reading');
		expect(graph.nodes.map((n) => n.op)).toEqual(['Reshape', 'Transpose', 'Slice']);
		expect(graph.values.get(name('y'))).toEqual({ name: 'y', dtype: 'float32', shape: [2, 2, 2, 4] });
		expect(toNumbers(graph.constants.get(name('view'))!)).toEqual([2, 3, 2, -1]);
		expect([...graph.constants.keys()].sort()).toEqual(['axes', 'ends', 'starts', 'view']);
		const x = sample('float32', [2, 3, 8]);
		const expected = (await runOrt(encodeModel(heads), { x })).get('y')!;
		expectClose(evaluateGraph(graph, new Map([[name('x'), x]])).get(name('y'))!, expected);
	});

	it('of several sizes come from one file', () => {
		expect(read(heads, { dims: { batch: 5, tokens: 7 } }).values.get(name('y'))!.shape).toEqual([5, 2, 6, 4]);
	});

	it('keep the path of the layer', () => {
		expect(read(heads, { dims }).nodes.map((n) => n.scope)).toEqual(['attn.heads.0', 'attn.heads.0', 'attn']);
	});

	it('need a number for every symbol', () => {
		expect(refusal(heads)).toBe(
			[
				'model.onnx, input x: dimension batch (axis 0) has no size',
				'  expected: a number for batch in dims',
				'  found: dims for nothing',
				'  try: give dims: { "batch": 1 }',
			].join('\n'),
		);
		expect(refusal(heads, { dims: { batch: 1, token: 4 } })).toContain(
			'dimension tokens (axis 1) has no size\n  expected: a number for tokens in dims\n  found: token,',
		);
		expect(refusal(heads, { dims: { batch: 1.5, tokens: 4 } })).toContain('dimension batch (axis 0) is impossible');
		expect(refusal(heads, { dims: { batch: -1, tokens: 4 } })).toContain('expected: a whole number from 0');
	});

	it('may be given for dimensions without a name', () => {
		const spec: ModelSpec = { inputs: [input('x', 1, [2, ''])], nodes: [node('Neg', ['x'], ['y'])], outputs: ['y'] };
		expect(refusal(spec)).toContain('dimension x[1] (axis 1) has no size');
		expect(read(spec, { dims: { 'x[1]': 3 } }).values.get(name('y'))!.shape).toEqual([2, 3]);
	});

	it('must be declared', () => {
		const bare = { name: 'x', type: { tensorType: { elemType: 1 } } };
		expect(refusal({ inputs: [bare], nodes: [node('Neg', ['x'], ['y'])], outputs: ['y'] })).toContain('input x: the input has no shape');
	});

	it('of 2^63 - 1 survive arithmetic on the way to Slice', () => {
		const end: Tensor = { dtype: 'int64', shape: [], data: BigInt64Array.of(2n ** 63n - 1n) };
		const spec: ModelSpec = {
			inputs: [input('x', 1, [4, 5])],
			nodes: [
				constant('end', end),
				constant('axis', ints(0)),
				node('Unsqueeze', ['end', 'axis'], ['end1']),
				node('Concat', ['end1', 'end1'], ['ends'], { axis: 0 }),
				constant('starts', ints(1, -2)),
				node('Slice', ['x', 'starts', 'ends'], ['y']),
			],
			outputs: ['y'],
		};
		expect(read(spec).values.get(name('y'))!.shape).toEqual([3, 2]);
	});
});

describe('folding', () => {
	it('evaluates index tables and masks made of constants', () => {
		const spec: ModelSpec = {
			inputs: [input('x', 1, [2, 3])],
			nodes: [
				constant('zero', tensor('int64', [], [0])),
				constant('three', tensor('int64', [], [3])),
				constant('one', tensor('int64', [], [1])),
				node('Range', ['zero', 'three', 'one'], ['range']),
				node('Cast', ['range'], ['table'], { to: 1 }),
				constant('shape', ints(2, 3)),
				node('ConstantOfShape', ['shape'], ['ones'], { value: { dims: [1], dataType: 1, floatData: [1] } }),
				node('Mul', ['table', 'ones'], ['weights']),
				node('Mul', ['x', 'weights'], ['y']),
			],
			outputs: ['y'],
		};
		const graph = read(spec);
		expect(graph.nodes.map((n) => n.op)).toEqual(['Mul']);
		expect([...graph.constants.keys()]).toEqual(['weights']);
		expect(toNumbers(graph.constants.get(name('weights'))!)).toEqual([0, 1, 2, 0, 1, 2]);
	});

	it('leaves large tensors and products to the engine', () => {
		const big = sample('float32', [300, 300]);
		const spec: ModelSpec = {
			inputs: [],
			nodes: [node('Transpose', ['w'], ['t']), node('MatMul', ['a', 'a'], ['p']), node('Neg', ['t'], ['y']), node('Neg', ['p'], ['z'])],
			initializers: [initializer('w', big), initializer('a', sample('float32', [2, 2]))],
			outputs: ['y', 'z'],
		};
		expect(read(spec).nodes.map((n) => n.op)).toEqual(['Transpose', 'MatMul', 'Neg', 'Neg']);
	});

	it('keeps nodes that compute outputs, and Identity', () => {
		const spec: ModelSpec = {
			inputs: [input('x', 1, [2, 3])],
			nodes: [node('Shape', ['x'], ['shape']), node('Identity', ['x'], ['same']), node('Neg', ['same'], ['y'])],
			outputs: ['shape', 'y'],
		};
		expect(read(spec).nodes.map((n) => n.op)).toEqual(['Shape', 'Identity', 'Neg']);
	});
});

describe('data', () => {
	const forms: [DType, Record<string, unknown>, number[]][] = [
		['float32', { floatData: [1.5, -2] }, [1.5, -2]],
		['float64', { doubleData: [0.1, -2] }, [0.1, -2]],
		['int64', { int64Data: [7, -9] }, [7, -9]],
		['int32', { int32Data: [7, -9] }, [7, -9]],
		['int8', { int32Data: [7, -9] }, [7, -9]],
		['uint8', { int32Data: [7, 255] }, [7, 255]],
		['bool', { int32Data: [0, 1] }, [0, 1]],
		['float16', { int32Data: [0x3e00, 0xc000] }, [1.5, -2]],
		['bfloat16', { int32Data: [0x3fc0, 0xc000] }, [1.5, -2]],
	];
	it.each(forms)('of type %s in its typed field', (dtype, fields, expected) => {
		const graph = read({
			inputs: [],
			nodes: [],
			initializers: [{ name: 'c', dims: [2], dataType: onnxElementType[dtype], ...fields }],
			outputs: ['c'],
		});
		const found = graph.constants.get(name('c'))!;
		expect(found).toMatchObject({ dtype, shape: [2] });
		expect(toNumbers(found)).toEqual(expected);
	});

	it.each(forms)('of type %s as raw bytes', (dtype, _, expected) => {
		const t = tensor(dtype, [2], expected);
		const graph = read({ inputs: [], nodes: [], initializers: [initializer('c', t)], outputs: ['c'] });
		expect(graph.constants.get(name('c'))).toEqual(t);
	});

	it('is copied out of the file, also when that is a Buffer', () => {
		const bytes = Buffer.from(writeOnnx(mlp()));
		const graph = readOnnx(bytes);
		bytes.fill(0);
		expect(graph.constants).toEqual(new Map([...mlp().constants]));
		expect(graph.constants.get(name('fc1.weight'))!.data.buffer.byteLength).toBe(48);
	});

	it('among the inputs, as before IR version 4, is no input', () => {
		const w = sample('float32', [3]);
		const spec: ModelSpec = {
			irVersion: 3,
			inputs: [input('x', 1, [3]), input('w', 1, [3])],
			nodes: [node('Mul', ['x', 'w'], ['y'])],
			initializers: [initializer('w', w)],
			outputs: ['y'],
		};
		expect(read(spec).inputs).toEqual(['x']);
	});

	it('that does not fit its shape is refused', () => {
		const withData = (more: object) =>
			refusal({ inputs: [], nodes: [], initializers: [{ name: 'c', dims: [2], dataType: 1, ...more }], outputs: ['c'] });
		expect(withData({ rawData: new Uint8Array(7) })).toBe(
			'model.onnx, tensor c: the data do not fill the shape\n  expected: 8 bytes for float32[2]\n  found: 7',
		);
		expect(withData({ floatData: [1] })).toContain('expected: 2 elements for float32[2]\n  found: 1');
		expect(withData({})).toContain('found: 0');
		expect(withData({ dims: [-2] })).toContain('the shape is impossible');
		expect(withData({ dims: [2 ** 40, 2 ** 40] })).toContain('the shape is impossible');
		expect(withData({ dataType: 12, rawData: new Uint8Array(8) })).toContain('the element type is not supported');
		expect(withData({ dataType: 12 })).toContain('found: uint32');
		expect(withData({ dataType: 77 })).toContain('found: ONNX type number 77');
	});

	it('in another file is refused with the way out', () => {
		const externalData = [{ key: 'location', value: 'weights.bin' }];
		const message = refusal({
			inputs: [],
			nodes: [],
			initializers: [{ name: 'w', dims: [2], dataType: 1, dataLocation: 1, externalData }],
			outputs: ['w'],
		});
		expect(message).toMatch(/^model\.onnx, tensor w: the data stand in another file\n.*\n {2}try: .*save_as_external_data=False/s);
	});
});

describe('names', () => {
	it('of inputs, outputs and values stay', () => {
		const graph = read(heads, { dims: { batch: 1, tokens: 2 } });
		expect(graph).toMatchObject({ name: 'test', inputs: ['x'], outputs: ['y'] });
		expect(graph.nodes.map((n) => n.outputs[0])).toEqual(['split', 'turned', 'y']);
	});

	it('are made up for outputs that are left out, and given up again on writing', () => {
		const g = createBuilder('skip');
		const [x, s] = [g.input('x', 'float32', [1, 2, 4]), g.input('s', 'float32', [1, 2, 4])];
		const gamma = g.constant(sample('float32', [4]), 'gamma');
		const beta = g.constant(sample('float32', [4]), 'beta');
		const [y, , , sum] = g.emit('SkipLayerNormalization', [x, s, gamma, beta], {}, 4);
		const bytes = writeOnnx(g.finish([y!, sum!]));
		const graph = readOnnx(bytes);
		expect(graph.nodes[0]!.outputs).toEqual([y!.name, 'SkipLayerNormalization_unused', 'SkipLayerNormalization_unused_1', sum!.name]);
		expect(writeOnnx(graph)).toEqual(bytes);
	});
});

describe('attributes', () => {
	it('are the shortest decimal of their float32', () => {
		expect(readOnnx(writeOnnx(mlp())).nodes[1]!.attributes).toEqual({ axis: -1, epsilon: 1e-5 });
	});

	const softmax = (attributes: Parameters<typeof node>[3]): ModelSpec => ({
		inputs: [input('x', 1, [1, 1, 4, 4])],
		nodes: [node('Softmax', ['x'], ['y'], attributes, { name: 'here' })],
		outputs: ['y'],
	});
	it('that are unknown are named with the nearest known', () => {
		expect(refusal(softmax({ axes: 1 }))).toBe(
			'model.onnx, node here (Softmax): attribute axes is not supported\n  expected: axis\n  found: axes = 1\n  try: the nearest supported attribute is axis',
		);
		expect(refusal(softmax({ toString: 1 }))).toContain('attribute toString is not supported');
	});
	it('of another kind are refused', () => {
		expect(refusal(softmax({ axis: 'last' }))).toContain('attribute axis is of another kind\n  expected: int\n  found: string');
		expect(refusal(softmax({ axis: 2 ** 60 }))).toContain('attribute axis is too large');
	});
});

describe('operators', () => {
	it('that are not supported are all listed at once', () => {
		const spec: ModelSpec = {
			inputs: [input('x', 1, [2])],
			nodes: [
				node('If', ['x'], ['a'], {}, { name: 'cond' }),
				node('Gelus', ['a'], ['b'], {}, { name: 'mlp/act' }),
				node('Gelus', ['b'], ['c']),
				node('Upsample', ['c'], ['d']),
				node('Gelu', ['d'], ['e'], {}, { domain: 'com.example' }),
				node('FastGelu', ['e'], ['y']),
			],
			outputs: ['y'],
			domains: { 'com.example': 1 },
		};
		expect(refusal(spec)).toBe(
			[
				'model.onnx: 5 operators are not supported',
				'  expected: operators of ai.onnx that this project knows',
				'  found: If (node cond), Gelus (node mlp/act and 1 more; nearest supported: Gelu), Upsample (node d), com.example::Gelu (node e; nearest supported: Gelu), FastGelu (node y; nearest supported: com.microsoft::FastGelu)',
				'  try: export the model for inference without control flow, or replace these operators before exporting',
			].join('\n'),
		);
	});

	it('whose inputs do not fit name the node', () => {
		const spec: ModelSpec = {
			inputs: [input('x', 1, [2, 3])],
			nodes: [node('MatMul', ['x', 'x'], ['y'], {}, { name: '/mlp/fc1' })],
			outputs: ['y'],
		};
		expect(refusal(spec)).toContain('model.onnx, node /mlp/fc1: MatMul(float32[2,3], float32[2,3]): inner dimensions differ');
	});

	it('that cannot be evaluated name the node', () => {
		const spec: ModelSpec = {
			inputs: [],
			nodes: [node('Div', ['one', 'zero'], ['q'], {}, { name: 'ratio' }), node('Identity', ['q'], ['y'])],
			initializers: [initializer('one', ints(1)), initializer('zero', ints(0))],
			outputs: ['y'],
		};
		expect(refusal(spec)).toBe('model.onnx, node ratio: Div: a whole number is divided by 0');
	});

	it('of ai.onnx may spell the domain out', () => {
		const spec: ModelSpec = { inputs: [input('x', 1, [2])], nodes: [node('Neg', ['x'], ['y'], {}, { domain: 'ai.onnx' })], outputs: ['y'] };
		expect(read(spec).nodes[0]!.op).toBe('Neg');
	});
});

describe('models', () => {
	const tiny: ModelSpec = { inputs: [input('x', 1, [2])], nodes: [node('Neg', ['x'], ['y'])], outputs: ['y'] };
	it('of other operator sets are refused', () => {
		expect(refusal({ ...tiny, opset: 22 })).toContain('expected: opset 7 to 21\n  found: opset 22');
		expect(refusal({ ...tiny, opset: 6 })).toContain('found: opset 6');
	});
	it('that are none are refused', () => {
		expect(() => readOnnx(new Uint8Array())).toThrow('ONNX model: this is not an ONNX model');
		expect(() => readOnnx(new TextEncoder().encode('{"version": 1}'), { place: 'config.json' })).toThrow(/^config\.json, byte \d+: /);
	});
	it('with broken wiring are refused', () => {
		expect(refusal({ ...tiny, nodes: [node('Neg', ['z'], ['y'])] })).toContain('node y (Neg): input z is not defined before it');
		expect(refusal({ ...tiny, outputs: ['q'] })).toContain('output q is not computed by any node');
		expect(refusal({ ...tiny, nodes: [...tiny.nodes, ...tiny.nodes] })).toContain('value y is defined twice');
		expect(refusal({ ...tiny, inputs: [...tiny.inputs, ...tiny.inputs] })).toContain('value x is defined twice');
		expect(refusal({ ...tiny, inputs: [input('', 1, [2])] })).toContain('a value has no name');
		expect(refusal({ ...tiny, inputs: [input('x', 8, [2])] })).toContain('input x: the element type is not supported');
	});
});
