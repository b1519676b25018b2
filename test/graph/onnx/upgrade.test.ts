/** @file Models of older operator sets: ONNX Runtime on the old file agrees with it on what we read and wrote again, and with our reference. */
import { describe, expect, it } from 'vitest';
import type { Tensor } from '../../../src/core/tensor.ts';
import { tensor } from '../../../src/core/tensor.ts';
import { checkGraph } from '../../../src/graph/check.ts';
import { evaluateGraph } from '../../../src/graph/evaluate.ts';
import { readOnnx, writeOnnx } from '../../../src/graph/onnx/index.ts';
import type { Graph, ValueName } from '../../../src/graph/types.ts';
import { expectClose } from '../../helpers/close.ts';
import { sample } from './fixtures.ts';
import { encodeModel, initializer, input, type ModelSpec, node, runOrt } from './models.ts';

const x234 = sample('float32', [2, 3, 4]);
const image = sample('float32', [1, 4, 4, 4], 3);
const ints = (...values: number[]) => tensor('int64', [values.length], values);
const scalar = (value: number) => tensor('float32', [], [value]);

/** One node `op(x, ...)` on x, with outputs y (and more). */
const single = (opset: number, x: Tensor, nodes: ModelSpec['nodes'], more: Partial<ModelSpec> = {}): [ModelSpec, Tensor] => [
	{ opset, inputs: [input('x', 1, x.shape)], nodes, outputs: ['y'], ...more },
	x,
];

const statistics = [sample('float32', [4], 1), sample('float32', [4], 2), sample('float32', [4], 3), sample('float32', [4], 4)] as const;

const cases: [name: string, [ModelSpec, Tensor], ops: string[]][] = [
	['Squeeze-11', single(11, sample('float32', [1, 2, 1]), [node('Squeeze', ['x'], ['y'], { axes: [0] })]), ['Squeeze']],
	['Squeeze-11 of all axes', single(11, sample('float32', [1, 2, 1]), [node('Squeeze', ['x'], ['y'])]), ['Squeeze']],
	['Unsqueeze-11', single(11, x234, [node('Unsqueeze', ['x'], ['y'], { axes: [0, 4] })]), ['Unsqueeze']],
	['ReduceSum-11', single(11, x234, [node('ReduceSum', ['x'], ['y'], { axes: [1], keepdims: 0 })]), ['ReduceSum']],
	['ReduceMean-17', single(17, x234, [node('ReduceMean', ['x'], ['y'], { axes: [-1] })]), ['ReduceMean']],
	['ReduceMean-13 of everything', single(13, x234, [node('ReduceMean', ['x'], ['y'])]), ['ReduceMean']],
	['ReduceMax-13', single(13, x234, [node('ReduceMax', ['x'], ['y'], { axes: [0, 2] })]), ['ReduceMax']],
	['ReduceMin-11', single(11, x234, [node('ReduceMin', ['x'], ['y'], { axes: [0] })]), ['ReduceMin']],
	['ReduceSumSquare-13', single(13, x234, [node('ReduceSumSquare', ['x'], ['y'], { axes: [2] })]), ['ReduceSumSquare']],
	[
		'Split-11 with sizes',
		single(11, x234, [node('Split', ['x'], ['y', 'z'], { axis: 2, split: [1, 3] })], { outputs: ['y', 'z'] }),
		['Split'],
	],
	['Split-13 in equal pieces', single(13, x234, [node('Split', ['x'], ['y', 'z'], { axis: -1 })], { outputs: ['y', 'z'] }), ['Split']],
	[
		'Split-18 by count',
		single(18, x234, [node('Split', ['x'], ['y', 'z'], { axis: 1, num_outputs: 2 })], { outputs: ['y', 'z'] }),
		['Split'],
	],
	['Pad-10', single(10, x234, [node('Pad', ['x'], ['y'], { pads: [0, 1, 0, 0, 0, 2], value: 1.5 })]), ['Pad']],
	['Pad-10 with zeros', single(10, x234, [node('Pad', ['x'], ['y'], { pads: [0, 1, 0, 0, 0, 2] })]), ['Pad']],
	['Clip-10', single(10, x234, [node('Clip', ['x'], ['y'], { min: 0.5, max: 2 }, { floats: ['max'] })]), ['Clip']],
	['Clip-10 from above', single(10, x234, [node('Clip', ['x'], ['y'], { max: 1.5 })]), ['Clip']],
	['Slice-9', single(9, x234, [node('Slice', ['x'], ['y'], { starts: [0, 1], ends: [1, -1], axes: [0, 2] })]), ['Slice']],
	['Slice-9 to the end', single(9, x234, [node('Slice', ['x'], ['y'], { starts: [1], ends: [2 ** 40] })]), ['Slice']],
	['Softmax-11 of the last axis', single(11, x234, [node('Softmax', ['x'], ['y'], { axis: 2 })]), ['Softmax']],
	['Softmax-11 without axis', single(11, sample('float32', [3, 4]), [node('Softmax', ['x'], ['y'])]), ['Softmax']],
	['LogSoftmax-12', single(12, x234, [node('LogSoftmax', ['x'], ['y'], { axis: -1 })]), ['LogSoftmax']],
	['Dropout-11', single(11, x234, [node('Dropout', ['x'], ['y'], { ratio: 0.5 })]), ['Identity']],
	[
		'Dropout-12, not training',
		single(13, x234, [node('Dropout', ['x', 'ratio', 'training'], ['y'])], {
			initializers: [initializer('ratio', scalar(0.5)), initializer('training', tensor('bool', [], [0]))],
		}),
		['Identity'],
	],
	[
		'BatchNormalization-11',
		single(11, image, [node('BatchNormalization', ['x', 's', 'b', 'm', 'v'], ['y'], { epsilon: 0.25, momentum: 0.9 })], {
			initializers: statistics.map((t, i) => initializer('sbmv'[i]!, t)),
		}),
		['Mul', 'Add'],
	],
	[
		'BatchNormalization-15',
		single(15, image, [node('BatchNormalization', ['x', 's', 'b', 'm', 'v'], ['y'], { training_mode: 0 })], {
			initializers: statistics.map((t, i) => initializer('sbmv'[i]!, t)),
		}),
		['Mul', 'Add'],
	],
	[
		'Max of three',
		single(13, x234, [node('Max', ['x', 'a', 'b'], ['y'])], { initializers: [initializer('a', scalar(1)), initializer('b', scalar(0.5))] }),
		['Max', 'Max'],
	],
	['Min of one', single(13, x234, [node('Min', ['x'], ['y'])]), ['Identity']],
	[
		'Resize-10',
		single(10, image, [node('Resize', ['x', 'scales'], ['y'], { mode: 'nearest' })], {
			initializers: [initializer('scales', tensor('float32', [4], [1, 1, 2, 3]))],
		}),
		['Resize'],
	],
	[
		'Resize-11 by sizes, as PyTorch writes it',
		single(
			11,
			image,
			[
				node('Resize', ['x', 'none', 'none', 'sizes'], ['y'], {
					mode: 'linear',
					coordinate_transformation_mode: 'pytorch_half_pixel',
					cubic_coeff_a: -0.75,
					nearest_mode: 'floor',
				}),
			],
			{ initializers: [initializer('none', tensor('float32', [0], [])), initializer('sizes', ints(1, 4, 7, 6))] },
		),
		['Resize'],
	],
	[
		'Constant in every form',
		single(13, x234, [
			node('Constant', [], ['a'], { value_float: 2.5 }),
			node('Constant', [], ['b'], { value_floats: [1.5, 2.5, 3.5, 4.5] }),
			node('Constant', [], ['c'], { value_ints: [0, 1] }),
			node('Constant', [], ['d'], { value: { dims: [], dataType: 1, floatData: [3] } }),
			node('Constant', [], ['e'], { value_int: 1 }),
			node('Gather', ['b', 'e'], ['f']),
			node('Mul', ['x', 'a'], ['g']),
			node('Add', ['g', 'b'], ['h']),
			node('Add', ['h', 'd'], ['i']),
			node('Add', ['i', 'f'], ['j']),
			node('Unsqueeze', ['j', 'c'], ['y']),
		]),
		['Mul', 'Add', 'Add', 'Add', 'Unsqueeze'],
	],
	[
		'Reshape copying a dimension',
		single(11, x234, [node('Reshape', ['x', 's'], ['y'])], { initializers: [initializer('s', ints(0, -1))] }),
		['Reshape'],
	],
	[
		'ConvTranspose and MaxPool with spelled-out defaults',
		single(
			12,
			image,
			[
				node('MaxPool', ['x'], ['p'], { kernel_shape: [2, 2], strides: [2, 2], ceil_mode: 0, storage_order: 0, auto_pad: 'NOTSET' }),
				node('ConvTranspose', ['p', 'w'], ['y'], { kernel_shape: [2, 2], strides: [2, 2], dilations: [1, 1], group: 1 }),
			],
			{ initializers: [initializer('w', sample('float32', [4, 2, 2, 2]))] },
		),
		['MaxPool', 'ConvTranspose'],
	],
];

describe.each(cases)('%s', (_, [spec, x], expectedOps) => {
	const bytes = encodeModel(spec);
	const graph: Graph = checkGraph(readOnnx(bytes), 'reading');

	it('becomes operators of opset 21', () => {
		expect(graph.nodes.map((n) => n.op)).toEqual(expectedOps);
		expect(graph.outputs).toEqual(spec.outputs);
	});

	it('computes what it did', async () => {
		const old = await runOrt(bytes, { x });
		const now = await runOrt(writeOnnx(graph), { x });
		const reference = evaluateGraph(graph, new Map([['x' as ValueName, x]]));
		for (const name of spec.outputs) {
			const expected = old.get(name)!;
			expect(now.get(name)!.shape).toEqual(expected.shape);
			expectClose(now.get(name)!, expected, { rtol: 1e-5, atol: 1e-6 });
			expectClose(reference.get(name as ValueName)!, expected, { rtol: 1e-5, atol: 1e-6 });
		}
	});
});

it('repeats the scales of GroupNormalization, which had one per group before opset 21', () => {
	// ONNX Runtime has no kernel of that operator before opset 21: by hand, each of the two groups is normalised to (-1, 1), then scaled.
	const x = tensor('float32', [1, 4, 1], [1, 3, 5, 9]);
	const spec: ModelSpec = {
		opset: 18,
		inputs: [input('x', 1, x.shape)],
		nodes: [node('GroupNormalization', ['x', 's', 'b'], ['y'], { num_groups: 2, epsilon: 0 }, { floats: ['epsilon'] })],
		initializers: [initializer('s', tensor('float32', [2], [2, 10])), initializer('b', tensor('float32', [2], [0, 100]))],
		outputs: ['y'],
	};
	const graph = readOnnx(encodeModel(spec));
	expectClose(evaluateGraph(graph, new Map([['x' as ValueName, x]])).get('y' as ValueName)!, [-2, 2, 90, 110]);
});

it('gives equal axes of many nodes one constant', () => {
	const axes = { axes: [2] };
	const spec: ModelSpec = {
		opset: 11,
		inputs: [input('x', 1, [2, 3, 4])],
		nodes: [
			node('ReduceSum', ['x'], ['a'], axes),
			node('ReduceMax', ['x'], ['b'], axes),
			node('ReduceMean', ['x'], ['axes'], { axes: [1] }),
			node('Add', ['a', 'b'], ['y']),
		],
		outputs: ['y', 'axes'],
	};
	const graph = readOnnx(encodeModel(spec));
	expect(graph.nodes.map((n) => n.inputs[1])).toEqual(['axes_1', 'axes_1', 'axes_2', 'b']);
});

describe('what cannot be converted is refused', () => {
	const read =
		([spec]: [ModelSpec, Tensor]) =>
		() =>
			readOnnx(encodeModel(spec), { place: 'old.onnx' });
	it('Softmax over several axes', () => {
		expect(read(single(11, x234, [node('Softmax', ['x'], ['y'], { axis: 1 }, { name: 'attn/soft' })]))).toThrow(
			'old.onnx, node attn/soft (Softmax): before opset 13 Softmax runs over several axes at once\n  expected: axis 2, the last one\n  found: axis 1',
		);
	});
	it('Dropout and BatchNormalization in training', () => {
		const training = { initializers: [initializer('t', tensor('bool', [], [1])), initializer('r', scalar(0.5))] };
		expect(read(single(13, x234, [node('Dropout', ['x', 'r', 't'], ['y'])], training))).toThrow('Dropout is in training mode');
		expect(read(single(13, x234, [node('Dropout', ['x'], ['y', 'mask'])], { outputs: ['y', 'mask'] }))).toThrow(
			'the mask of Dropout is read',
		);
		const norm = { initializers: statistics.map((t, i) => initializer('sbmv'[i]!, t)) };
		const from = ['x', 's', 'b', 'm', 'v'];
		expect(read(single(14, image, [node('BatchNormalization', from, ['y'], { training_mode: 1 })], norm))).toThrow('in training mode');
		expect(read(single(13, image, [node('BatchNormalization', ['x', 'x', 'b', 'm', 'v'], ['y'])], norm))).toThrow(
			'input 1 of BatchNormalization is not a constant',
		);
		expect(read(single(13, x234, [node('BatchNormalization', from, ['y'])], norm))).toThrow('expected: 3 numbers');
	});
	it('a Split that does not come out even', () => {
		expect(read(single(13, x234, [node('Split', ['x'], ['y', 'z'], { axis: 1 })]))).toThrow(
			'axis 1 does not split into 2 equal pieces\n  found: float32[2,3,4]',
		);
	});
	it('constants of other forms', () => {
		expect(read(single(13, x234, [node('Constant', [], ['y'], { value_string: 'a' })]))).toThrow(
			'constants of the form value_string are not supported',
		);
		expect(read(single(13, x234, [node('Constant', [], ['y'])]))).toThrow('a Constant must have one attribute');
	});
	it('list attributes of another kind', () => {
		expect(read(single(11, x234, [node('ReduceSum', ['x'], ['y'], { axes: 1 })]))).toThrow('attribute axes is not a list of integers');
		expect(read(single(10, x234, [node('Clip', ['x'], ['y'], { min: 1 })]))).toThrow('attribute min is not a number');
	});
});
