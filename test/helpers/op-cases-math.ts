/** @file Cases of arithmetic, comparison, activations, reductions, softmax, products and normalisation. */
import { tensor } from '../../src/core/tensor.ts';
import type { GraphBuilder } from '../../src/graph/builder.ts';
import type { Value } from '../../src/graph/types.ts';
import type { OpCase } from './op-case.ts';

const arithmetic: OpCase[] = [
	{ op: 'Add', name: 'same shape', inputs: [{ shape: [2, 3] }, { shape: [2, 3] }], build: (g, a, b) => g.add(a!, b!) },
	{ op: 'Add', name: 'broadcast both ways', inputs: [{ shape: [2, 1, 3] }, { shape: [4, 1] }], build: (g, a, b) => g.add(a!, b!) },
	{ op: 'Add', name: 'scalar', inputs: [{ shape: [2, 3] }, { shape: [] }], build: (g, a, b) => g.add(a!, b!) },
	{ op: 'Add', name: 'the same value twice', inputs: [{ shape: [3] }], build: (g, a) => g.add(a!, a!) },
	{
		op: 'Add',
		name: 'int64',
		inputs: [
			{ shape: [3], dtype: 'int64', range: [-9, 9] },
			{ shape: [3], dtype: 'int64', range: [-9, 9] },
		],
		build: (g, a, b) => g.add(a!, b!),
	},
	{ op: 'Sub', name: 'broadcast', inputs: [{ shape: [3] }, { shape: [2, 3] }], build: (g, a, b) => g.sub(a!, b!) },
	{ op: 'Sub', name: 'from a number', inputs: [{ shape: [3] }], build: (g, a) => g.sub(1, a!) },
	{ op: 'Mul', name: 'broadcast', inputs: [{ shape: [2, 1, 3] }, { shape: [4, 3] }], build: (g, a, b) => g.mul(a!, b!) },
	{ op: 'Mul', name: 'square', inputs: [{ shape: [4] }], build: (g, a) => g.mul(a!, a!) },
	{ op: 'Div', name: 'broadcast', inputs: [{ shape: [2, 3] }, { shape: [2, 1], range: [0.5, 2] }], build: (g, a, b) => g.div(a!, b!) },
	{
		op: 'Div',
		name: 'int64 towards zero',
		inputs: [
			{ shape: [6], dtype: 'int64', values: [7, -7, 7, -7, 6, 0] },
			{ shape: [6], dtype: 'int64', values: [2, 2, -2, -2, 3, 5] },
		],
		build: (g, a, b) => g.div(a!, b!),
	},
	{
		op: 'Pow',
		name: 'broadcast',
		inputs: [
			{ shape: [2, 3], range: [0.5, 2] },
			{ shape: [3], range: [-2, 2] },
		],
		build: (g, a, b) => g.pow(a!, b!),
	},
	{ op: 'Pow', name: 'square of negatives', inputs: [{ shape: [5], range: [-2, 0] }], build: (g, a) => g.pow(a!, 2) },
	...[0, 0.5, 1, 3, -1.5].map(
		(p): OpCase => ({
			op: 'Pow',
			name: `constant exponent ${p}`,
			inputs: [{ shape: [4], range: [0.5, 2] }],
			build: (g, a) => g.pow(a!, p),
		}),
	),
	{
		op: 'Pow',
		name: 'constant exponents that differ, and broadcast the base',
		inputs: [{ shape: [3], range: [0.5, 2] }],
		build: (g, a) => g.pow(a!, g.constant(tensor(a!.dtype, [2, 3], [2, 1, 0.5, -1, 0, 3]))),
	},
	{
		op: 'Pow',
		name: 'one constant exponent that broadcasts the base',
		inputs: [{ shape: [3], range: [0.5, 2] }],
		build: (g, a) => g.pow(a!, g.constant(tensor(a!.dtype, [2, 1], [2, 2]))),
	},
	{ op: 'Max', name: 'broadcast', inputs: [{ shape: [2, 4] }, { shape: [4] }], build: (g, a, b) => g.max(a!, b!) },
	{ op: 'Min', name: 'broadcast', inputs: [{ shape: [2, 4] }, { shape: [2, 1] }], build: (g, a, b) => g.min(a!, b!) },
	{
		op: 'Mod',
		name: 'int64, sign of the divisor',
		inputs: [
			{ shape: [4], dtype: 'int64', values: [7, -7, 7, -7] },
			{ shape: [4], dtype: 'int64', values: [3, 3, -3, -3] },
		],
		build: (g, a, b) => g.mod(a!, b!),
	},
	{
		op: 'Mod',
		name: 'fmod, sign of the dividend',
		inputs: [
			{ shape: [4], values: [5.5, -5.5, 5.5, -5.5] },
			{ shape: [4], values: [2, 2, -2, -2] },
		],
		build: (g, a, b) => g.emit('Mod', [a, b], { fmod: 1 }),
	},
];

const comparisons: OpCase[] = [
	...(['equal', 'less', 'greater', 'lessOrEqual', 'greaterOrEqual'] as const).flatMap((name): OpCase[] => {
		const op = `${name[0]!.toUpperCase()}${name.slice(1)}` as OpCase['op'];
		return [
			{
				op,
				name: 'float',
				inputs: [
					{ shape: [2, 4], values: [1, 2, 3, 4, 4, 3, 2, 1] },
					{ shape: [4], values: [1, 3, 3, 2] },
				],
				build: (g, a, b) => g[name](a!, b!),
			},
			{
				op,
				name: 'int64',
				inputs: [
					{ shape: [4, 1], dtype: 'int64', range: [0, 3] },
					{ shape: [3], dtype: 'int64', range: [0, 3] },
				],
				build: (g, a, b) => g[name](a!, b!),
			},
		];
	}),
	...(['and', 'or'] as const).map(
		(name): OpCase => ({
			op: name === 'and' ? 'And' : 'Or',
			name: 'broadcast',
			inputs: [
				{ shape: [2, 1], dtype: 'bool', values: [0, 1] },
				{ shape: [2], dtype: 'bool', values: [0, 1] },
			],
			build: (g, a, b) => g[name](a!, b!),
		}),
	),
	{ op: 'Not', name: 'bool', inputs: [{ shape: [4], dtype: 'bool' }], build: (g, a) => g.not(a!) },
	{
		op: 'Where',
		name: 'same shape',
		inputs: [{ shape: [2, 3], dtype: 'bool' }, { shape: [2, 3] }, { shape: [2, 3] }],
		build: (g, c, a, b) => g.where(c!, a!, b!),
	},
	{
		op: 'Where',
		name: 'everything broadcasts',
		inputs: [{ shape: [2, 1, 4], dtype: 'bool' }, { shape: [3, 1] }, { shape: [4] }],
		build: (g, c, a, b) => g.where(c!, a!, b!),
	},
	{
		op: 'Where',
		name: 'masking with a number',
		inputs: [{ shape: [3, 3], dtype: 'bool' }, { shape: [2, 3, 3] }],
		build: (g, c, a) => g.where(c!, a!, -10),
	},
];

const unaries: OpCase[] = [
	{ op: 'Neg', name: 'float', inputs: [{ shape: [2, 3] }], build: (g, x) => g.neg(x!) },
	{ op: 'Abs', name: 'both signs', inputs: [{ shape: [6], values: [-2, -0.5, 0.25, 1, 3, -1] }], build: (g, x) => g.abs(x!) },
	{ op: 'Sign', name: 'both signs and zero', inputs: [{ shape: [3], values: [-2, 0, 5] }], build: (g, x) => g.sign(x!), gradient: false },
	{ op: 'Exp', name: 'float', inputs: [{ shape: [2, 3], range: [-3, 3] }], build: (g, x) => g.exp(x!) },
	{ op: 'Log', name: 'positive', inputs: [{ shape: [2, 3], range: [0.2, 4] }], build: (g, x) => g.log(x!) },
	{ op: 'Sqrt', name: 'positive', inputs: [{ shape: [2, 3], range: [0.2, 4] }], build: (g, x) => g.sqrt(x!) },
	{ op: 'Reciprocal', name: 'negative', inputs: [{ shape: [2, 3], range: [-3, -0.3] }], build: (g, x) => g.reciprocal(x!) },
	{ op: 'Erf', name: 'both branches', inputs: [{ shape: [2, 5], range: [-4, 4] }], build: (g, x) => g.erf(x!) },
	{ op: 'Sin', name: 'float', inputs: [{ shape: [2, 3], range: [-4, 4] }], build: (g, x) => g.sin(x!) },
	{ op: 'Cos', name: 'float', inputs: [{ shape: [2, 3], range: [-4, 4] }], build: (g, x) => g.cos(x!) },
	...(['floor', 'ceil', 'round'] as const).map(
		(name): OpCase => ({
			op: `${name[0]!.toUpperCase()}${name.slice(1)}` as OpCase['op'],
			name: 'halves',
			inputs: [{ shape: [8], values: [-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.3, -1.7] }],
			build: (g, x) => g[name](x!),
			gradient: false,
		}),
	),
	{ op: 'Identity', name: 'float', inputs: [{ shape: [2, 3] }], build: (g, x) => g.identity(x!) },
	{
		op: 'Cast',
		name: 'float to float',
		inputs: [{ shape: [2, 3] }],
		build: (g, x) => g.cast(g.cast(x!, x!.dtype === 'float32' ? 'float64' : 'float32'), x!.dtype),
		gradient: { rtol: 1e-4, step: 1e-2 },
	},
	{ op: 'Cast', name: 'float to int32', inputs: [{ shape: [4], values: [-1.7, -0.2, 0.9, 2.5] }], build: (g, x) => g.cast(x!, 'int32') },
	{ op: 'Cast', name: 'float to bool', inputs: [{ shape: [3], values: [0, 0.5, -2] }], build: (g, x) => g.cast(x!, 'bool') },
	{ op: 'Cast', name: 'bool to float', inputs: [{ shape: [4], dtype: 'bool' }], build: (g, x) => g.cast(x!, 'float32') },
	{ op: 'Cast', name: 'int64 to float', inputs: [{ shape: [4], dtype: 'int64', range: [-9, 9] }], build: (g, x) => g.cast(x!, 'float32') },
	{ op: 'Clip', name: 'both bounds', inputs: [{ shape: [2, 5] }], build: (g, x) => g.clip(x!, -0.4, 0.3) },
	{ op: 'Clip', name: 'low alone', inputs: [{ shape: [8] }], build: (g, x) => g.clip(x!, -0.2, undefined) },
	{ op: 'Clip', name: 'high alone', inputs: [{ shape: [8] }], build: (g, x) => g.clip(x!, undefined, 0.2) },
	{ op: 'Clip', name: 'no bounds', inputs: [{ shape: [4] }], build: (g, x) => g.clip(x!, undefined, undefined) },
	{
		op: 'Clip',
		name: 'bounds that are computed',
		inputs: [{ shape: [2, 6] }, { shape: [], values: [-0.3] }, { shape: [], values: [0.5] }],
		build: (g, x, low, high) => g.emit('Clip', [x, low, high]),
	},
];

const everywhere = { shape: [2, 6], range: [-4, 4] } as const;
const activations: OpCase[] = [
	{ op: 'Tanh', name: 'float', inputs: [everywhere], build: (g, x) => g.tanh(x!) },
	{ op: 'Sigmoid', name: 'float', inputs: [everywhere], build: (g, x) => g.sigmoid(x!) },
	{ op: 'Sigmoid', name: 'SiLU', inputs: [everywhere], build: (g, x) => g.mul(x!, g.sigmoid(x!)) },
	{ op: 'Softplus', name: 'float', inputs: [everywhere], build: (g, x) => g.softplus(x!) },
	{ op: 'Relu', name: 'both sides', inputs: [everywhere], build: (g, x) => g.relu(x!) },
	{ op: 'LeakyRelu', name: 'default slope', inputs: [everywhere], build: (g, x) => g.emit('LeakyRelu', [x]) },
	{ op: 'LeakyRelu', name: 'alpha 0.3', inputs: [everywhere], build: (g, x) => g.leakyRelu(x!, 0.3) },
	{ op: 'LeakyRelu', name: 'alpha 1.5', inputs: [everywhere], build: (g, x) => g.leakyRelu(x!, 1.5) },
	{ op: 'Elu', name: 'default alpha', inputs: [everywhere], build: (g, x) => g.emit('Elu', [x]) },
	{ op: 'Elu', name: 'alpha 0.6', inputs: [everywhere], build: (g, x) => g.elu(x!, 0.6) },
	{ op: 'Gelu', name: 'default', inputs: [everywhere], build: (g, x) => g.emit('Gelu', [x]) },
	{ op: 'Gelu', name: 'none', inputs: [everywhere], build: (g, x) => g.gelu(x!) },
	{ op: 'Gelu', name: 'tanh', inputs: [everywhere], build: (g, x) => g.gelu(x!, 'tanh') },
	{ op: 'Mish', name: 'float', inputs: [{ shape: [2, 6], range: [-8, 8] }], build: (g, x) => g.mish(x!) },
	{ op: 'HardSwish', name: 'three pieces', inputs: [{ shape: [3, 6], range: [-6, 6] }], build: (g, x) => g.hardSwish(x!) },
	{ op: 'HardSigmoid', name: 'default', inputs: [everywhere], build: (g, x) => g.emit('HardSigmoid', [x]) },
	{ op: 'HardSigmoid', name: 'alpha 0.4, beta 0.3', inputs: [everywhere], build: (g, x) => g.hardSigmoid(x!, 0.4, 0.3) },
];

const sums = ['ReduceSum', 'ReduceMean', 'ReduceMax', 'ReduceMin', 'ReduceSumSquare'] as const;
const reductions: OpCase[] = [
	...sums.flatMap((op): OpCase[] => [
		{ op, name: 'last axis', inputs: [{ shape: [2, 3, 4] }], build: (g, x) => g.emit(op, [x, g.ints([-1])]) },
		{
			op,
			name: 'two axes, keepdims 0',
			inputs: [{ shape: [2, 3, 4] }],
			build: (g, x) => g.emit(op, [x, g.ints([0, -1])], { keepdims: 0 }),
		},
		{ op, name: 'axes left out', inputs: [{ shape: [2, 3] }], build: (g, x) => g.emit(op, [x]) },
		{ op, name: 'axes left out, keepdims 0', inputs: [{ shape: [2, 3] }], build: (g, x) => g.emit(op, [x, undefined], { keepdims: 0 }) },
		{ op, name: 'an axis of one element', inputs: [{ shape: [2, 1, 3] }], build: (g, x) => g.emit(op, [x, g.ints([1])]) },
	]),
	...sums.map(
		(op): OpCase => ({
			op,
			name: 'no axes and noop',
			inputs: [{ shape: [2, 3] }],
			build: (g, x) => g.emit(op, [x, g.ints([])], { noop_with_empty_axes: 1 }),
		}),
	),
	...(['ReduceSum', 'ReduceMax', 'ReduceMin'] as const).map(
		(op): OpCase => ({
			op,
			name: 'int32',
			inputs: [{ shape: [2, 3], dtype: 'int32', range: [-5, 5] }],
			build: (g, x) => g.emit(op, [x, g.ints([0])]),
		}),
	),
	{ op: 'ReduceSum', name: 'int64', inputs: [{ shape: [2, 3], dtype: 'int64', range: [-5, 5] }], build: (g, x) => g.reduceSum(x!, [1]) },
	{ op: 'ArgMax', name: 'last axis', inputs: [{ shape: [3, 4] }], build: (g, x) => g.argMax(x!, -1) },
	{ op: 'ArgMax', name: 'first axis, keepdims 0', inputs: [{ shape: [3, 4] }], build: (g, x) => g.argMax(x!, 0, false) },
	{ op: 'ArgMax', name: 'ties', inputs: [{ shape: [4], values: [1, 3, 3, 0] }], build: (g, x) => g.argMax(x!, 0) },
	{
		op: 'ArgMax',
		name: 'ties, last index',
		inputs: [{ shape: [4], values: [1, 3, 3, 0] }],
		build: (g, x) => g.emit('ArgMax', [x], { axis: 0, select_last_index: 1 }),
	},
	...[false, true].flatMap((exclusive) =>
		[false, true].map(
			(reverse): OpCase => ({
				op: 'CumSum',
				name: `exclusive ${exclusive}, reverse ${reverse}`,
				inputs: [{ shape: [2, 4, 3] }],
				build: (g, x) => g.cumSum(x!, reverse ? -2 : 1, exclusive, reverse),
			}),
		),
	),
];

const softmaxes: OpCase[] = (['Softmax', 'LogSoftmax'] as const).flatMap((op): OpCase[] => [
	{ op, name: 'default axis', inputs: [{ shape: [2, 5], range: [-3, 3] }], build: (g, x) => g.emit(op, [x]) },
	{ op, name: 'inner axis', inputs: [{ shape: [2, 3, 4], range: [-3, 3] }], build: (g, x) => g.emit(op, [x], { axis: 1 }) },
	{
		op,
		name: 'large values',
		inputs: [{ shape: [2, 4], range: [990, 1000] }],
		build: (g, x) => g.emit(op, [x], { axis: -1 }),
		gradient: { atol: 1e-6 },
	},
]);

const products: OpCase[] = [
	{ op: 'MatMul', name: 'matrices', inputs: [{ shape: [2, 3] }, { shape: [3, 4] }], build: (g, a, b) => g.matMul(a!, b!) },
	{ op: 'MatMul', name: 'batch', inputs: [{ shape: [2, 2, 3] }, { shape: [2, 3, 2] }], build: (g, a, b) => g.matMul(a!, b!) },
	{
		op: 'MatMul',
		name: 'weight shared by a batch',
		inputs: [{ shape: [2, 2, 2, 3] }, { shape: [3, 4] }],
		build: (g, a, b) => g.matMul(a!, b!),
	},
	{ op: 'MatMul', name: 'matrix against a batch', inputs: [{ shape: [2, 3] }, { shape: [2, 3, 2] }], build: (g, a, b) => g.matMul(a!, b!) },
	{
		op: 'MatMul',
		name: 'batches broadcast both ways',
		inputs: [{ shape: [2, 1, 2, 3] }, { shape: [3, 3, 2] }],
		build: (g, a, b) => g.matMul(a!, b!),
	},
	...[false, true].flatMap((transA) =>
		[false, true].map(
			(transB): OpCase => ({
				op: 'Gemm',
				name: `transA ${transA}, transB ${transB}`,
				inputs: [{ shape: transA ? [3, 2] : [2, 3] }, { shape: transB ? [4, 3] : [3, 4] }, { shape: [4] }],
				build: (g, a, b, c) => g.gemm(a!, b!, c!, { transA, transB, alpha: 0.5, beta: 2 }),
			}),
		),
	),
	{ op: 'Gemm', name: 'no third operand', inputs: [{ shape: [2, 3] }, { shape: [3, 2] }], build: (g, a, b) => g.gemm(a!, b!) },
	{
		op: 'Gemm',
		name: 'a column as third operand',
		inputs: [{ shape: [2, 3] }, { shape: [3, 2] }, { shape: [2, 1] }],
		build: (g, a, b, c) => g.gemm(a!, b!, c!),
	},
];

const epsilon = 1e-5;
const ones = (g: GraphBuilder, like: Value, count: number) => g.constant(tensor(like.dtype, [count], new Array<number>(count).fill(1)));
const layerOutputs = ({ y, mean, invStdDev }: { y: Value; mean: Value; invStdDev: Value }) => [y, mean, invStdDev];
const norms: OpCase[] = [
	{
		op: 'LayerNormalization',
		name: 'scale and bias',
		inputs: [{ shape: [2, 3, 5] }, { shape: [5] }, { shape: [5] }],
		build: (g, x, s, b) => g.layerNorm(x!, s!, b!, epsilon).y,
	},
	{
		op: 'LayerNormalization',
		name: 'no bias',
		inputs: [{ shape: [2, 5] }, { shape: [5] }],
		build: (g, x, s) => g.layerNorm(x!, s!, undefined, epsilon).y,
	},
	{
		op: 'LayerNormalization',
		name: 'one output',
		inputs: [{ shape: [2, 5] }, { shape: [5] }],
		build: (g, x, s) => g.emit('LayerNormalization', [x, s]),
	},
	{
		op: 'LayerNormalization',
		name: 'two axes',
		inputs: [{ shape: [2, 3, 4] }, { shape: [3, 4] }, { shape: [3, 4] }],
		build: (g, x, s, b) => g.layerNorm(x!, s!, b!, 1e-3, 1).y,
	},
	{
		op: 'LayerNormalization',
		name: 'scale and bias per sample (modulation)',
		inputs: [{ shape: [2, 3, 5] }, { shape: [2, 1, 5] }, { shape: [2, 1, 5] }],
		build: (g, x, s, b) => g.layerNorm(x!, s!, b!, epsilon).y,
	},
	{
		op: 'LayerNormalization',
		name: 'scale of ones',
		inputs: [{ shape: [2, 3, 5] }],
		build: (g, x) => g.layerNorm(x!, g.expand(g.scalar(1, x!.dtype), [5]), undefined, epsilon).y,
	},
	{
		op: 'LayerNormalization',
		name: 'scale constantly one',
		inputs: [{ shape: [2, 3, 5] }],
		build: (g, x) => g.layerNorm(x!, ones(g, x!, 5), undefined, epsilon).y,
	},
	{
		op: 'LayerNormalization',
		name: 'scale constantly one, one output',
		inputs: [{ shape: [2, 3, 5] }],
		build: (g, x) => g.emit('LayerNormalization', [x, ones(g, x!, 5)]),
	},
	{
		op: 'LayerNormalization',
		name: 'scale constantly one, a bias',
		inputs: [{ shape: [2, 5] }, { shape: [5] }],
		build: (g, x, b) => g.layerNorm(x!, ones(g, x!, 5), b!, epsilon).y,
	},
	{
		op: 'LayerNormalization',
		name: 'scale constantly one, statistics used too',
		inputs: [{ shape: [2, 3, 5] }],
		build: (g, x) => layerOutputs(g.layerNorm(x!, ones(g, x!, 5), undefined, epsilon)),
	},
	{
		op: 'LayerNormalization',
		name: 'statistics used too',
		inputs: [{ shape: [2, 5] }, { shape: [5] }, { shape: [5] }],
		build: (g, x, s, b) => layerOutputs(g.layerNorm(x!, s!, b!, epsilon)),
	},
	{
		op: 'LayerNormalization',
		name: 'statistics alone',
		inputs: [{ shape: [2, 5] }, { shape: [5] }],
		build: (g, x, s) => layerOutputs(g.layerNorm(x!, s!, undefined, epsilon)).slice(1),
	},
	{
		op: 'LayerNormalization',
		name: 'a mean far from zero',
		inputs: [{ shape: [3, 6], range: [50, 52] }, { shape: [6] }, { shape: [6] }],
		build: (g, x, s, b) => g.layerNorm(x!, s!, b!, epsilon).y,
	},
	...[1, 2, 4].map(
		(groups): OpCase => ({
			op: 'GroupNormalization',
			name: `${groups} groups`,
			inputs: [{ shape: [2, 4, 2, 3] }, { shape: [4] }, { shape: [4] }],
			build: (g, x, s, b) => g.groupNorm(x!, s!, b!, groups, epsilon),
		}),
	),
	{
		op: 'GroupNormalization',
		name: 'one spatial axis',
		inputs: [{ shape: [2, 6, 3] }, { shape: [6] }, { shape: [6] }],
		build: (g, x, s, b) => g.groupNorm(x!, s!, b!, 3, 1e-3),
	},
	{
		op: 'InstanceNormalization',
		name: 'images',
		inputs: [{ shape: [2, 3, 2, 3] }, { shape: [3] }, { shape: [3] }],
		build: (g, x, s, b) => g.instanceNorm(x!, s!, b!, epsilon),
	},
];

export const mathCases: readonly OpCase[] = [
	...arithmetic,
	...comparisons,
	...unaries,
	...activations,
	...reductions,
	...softmaxes,
	...products,
	...norms,
];
