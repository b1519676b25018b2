/** @file Cases of convolutions, pooling, shape and index operators. */
import { tensor } from '../../src/core/tensor.ts';
import { onnxElementType } from '../../src/graph/builder/elementwise.ts';
import type { GraphBuilder } from '../../src/graph/builder.ts';
import type { Attributes, Value } from '../../src/graph/types.ts';
import type { InputSpec } from './gradcheck.ts';
import type { OpCase } from './op-case.ts';

const of = (...shape: number[]): InputSpec => ({ shape });
const indices = (shape: readonly number[], ...values: number[]): InputSpec => ({ shape, values, dtype: 'int64' });

const convCases: readonly OpCase[] = [
	{
		op: 'Conv',
		name: '3x3 with bias, padded',
		inputs: [of(2, 3, 5, 4), of(4, 3, 3, 3), of(4)],
		build: (g, x, w, b) => g.conv(x!, w!, b, { pads: [1, 1, 1, 1] }),
	},
	{ op: 'Conv', name: '1x1', inputs: [of(2, 3, 4, 4), of(2, 3, 1, 1)], build: (g, x, w) => g.conv(x!, w!) },
	{
		op: 'Conv',
		name: '1x1, stride 2',
		inputs: [of(2, 2, 4, 5), of(3, 2, 1, 1), of(3)],
		build: (g, x, w, b) => g.conv(x!, w!, b, { strides: [2, 2] }),
	},
	{
		op: 'Conv',
		name: '3x3, stride 2, an overhanging column',
		inputs: [of(1, 2, 6, 5), of(3, 2, 3, 3), of(3)],
		build: (g, x, w, b) => g.conv(x!, w!, b, { strides: [2, 2], pads: [1, 1, 1, 1] }),
	},
	{
		op: 'Conv',
		name: 'stride 2 with pads on one side',
		inputs: [of(1, 2, 6, 6), of(2, 2, 3, 3)],
		build: (g, x, w) => g.conv(x!, w!, undefined, { strides: [2, 2], pads: [0, 0, 1, 1] }),
	},
	{
		op: 'Conv',
		name: 'dilation 2 and uneven kernel',
		inputs: [of(2, 2, 6, 7), of(3, 2, 3, 2), of(3)],
		build: (g, x, w, b) => g.conv(x!, w!, b, { dilations: [2, 3], pads: [2, 0, 1, 2] }),
	},
	{
		op: 'Conv',
		name: 'two groups',
		inputs: [of(2, 4, 4, 4), of(6, 2, 3, 3), of(6)],
		build: (g, x, w, b) => g.conv(x!, w!, b, { pads: [1, 1, 1, 1], group: 2 }),
	},
	{
		op: 'Conv',
		name: 'depthwise, stride 2',
		inputs: [of(1, 3, 5, 5), of(3, 1, 3, 3)],
		build: (g, x, w) => g.conv(x!, w!, undefined, { strides: [2, 2], pads: [1, 1, 1, 1], group: 3 }),
	},
	{
		op: 'Conv',
		name: 'padding wider than the kernel reaches',
		inputs: [of(1, 2, 3, 3), of(2, 2, 2, 2)],
		build: (g, x, w) => g.conv(x!, w!, undefined, { pads: [2, 0, 0, 2] }),
	},
	{
		op: 'Conv',
		name: 'one axis',
		inputs: [of(2, 3, 7), of(2, 3, 3), of(2)],
		build: (g, x, w, b) => g.conv(x!, w!, b, { pads: [1, 1], strides: [2] }),
	},
	{
		op: 'Conv',
		name: 'three axes',
		inputs: [of(1, 2, 3, 3, 2), of(2, 2, 2, 2, 2)],
		build: (g, x, w) => g.conv(x!, w!, undefined, { pads: [1, 0, 0, 0, 1, 0] }),
	},
	{
		op: 'ConvTranspose',
		name: '4x4, stride 2',
		inputs: [of(2, 3, 3, 2), of(3, 2, 4, 4), of(2)],
		build: (g, x, w, b) => g.convTranspose(x!, w!, b, { strides: [2, 2], pads: [1, 1, 1, 1] }),
	},
	{
		op: 'ConvTranspose',
		name: 'output padding, dilation and groups',
		inputs: [of(2, 4, 3, 3), of(4, 3, 2, 3), of(6)],
		build: (g, x, w, b) =>
			g.convTranspose(x!, w!, b, { strides: [3, 2], pads: [0, 1, 1, 2], dilations: [2, 2], group: 2, outputPadding: [2, 1] }),
	},
	{ op: 'ConvTranspose', name: 'one axis', inputs: [of(2, 3, 4), of(3, 2, 3)], build: (g, x, w) => g.convTranspose(x!, w!) },
];

const resizeTo = (g: GraphBuilder, x: Value, sizes: readonly number[], attributes: Attributes): Value =>
	g.one('Resize', [x, undefined, undefined, g.ints(sizes)], attributes);

const resizeBy = (g: GraphBuilder, x: Value, scales: readonly number[], attributes: Attributes): Value =>
	g.one('Resize', [x, undefined, g.constant(tensor('float32', [scales.length], scales))], attributes);

const poolCases: readonly OpCase[] = [
	{
		op: 'AveragePool',
		name: 'windows that tile',
		inputs: [of(2, 2, 4, 6)],
		build: (g, x) => g.averagePool(x!, { kernel: [2, 3], strides: [2, 3] }),
	},
	{
		op: 'AveragePool',
		name: 'overlap, padding not counted',
		inputs: [of(1, 2, 5, 4)],
		build: (g, x) => g.averagePool(x!, { kernel: [3, 3], strides: [2, 2], pads: [1, 1, 1, 1] }),
	},
	{
		op: 'AveragePool',
		name: 'overlap, padding counted',
		inputs: [of(1, 2, 5, 6)],
		build: (g, x) => g.averagePool(x!, { kernel: [3, 2], strides: [2, 1], pads: [1, 0, 0, 1], countIncludePad: true }),
	},
	{
		op: 'AveragePool',
		name: 'one axis, a rest left over',
		inputs: [of(2, 3, 7)],
		build: (g, x) => g.averagePool(x!, { kernel: [3], strides: [3] }),
	},
	{ op: 'GlobalAveragePool', name: 'two axes', inputs: [of(2, 3, 2, 3)], build: (g, x) => g.globalAveragePool(x!) },
	{
		op: 'MaxPool',
		name: 'windows that tile',
		inputs: [of(2, 2, 4, 6)],
		build: (g, x) => g.maxPool(x!, { kernel: [2, 3], strides: [2, 3] }),
	},
	{
		op: 'MaxPool',
		name: 'overlap and padding',
		inputs: [of(1, 2, 5, 4)],
		build: (g, x) => g.maxPool(x!, { kernel: [3, 3], strides: [2, 2], pads: [1, 1, 1, 1] }),
		gradient: false,
	},
	{
		op: 'Resize',
		name: 'nearest, whole factors',
		inputs: [of(2, 2, 2, 3)],
		build: (g, x) => g.upsampleNearest(x!, [1, 1, 2, 3]),
	},
	{
		op: 'Resize',
		name: 'nearest down, half_pixel',
		inputs: [of(1, 2, 5, 4)],
		build: (g, x) => resizeTo(g, x!, [1, 2, 3, 2], { mode: 'nearest', coordinate_transformation_mode: 'half_pixel' }),
	},
	{
		op: 'Resize',
		name: 'nearest, ceil by scales',
		inputs: [of(1, 1, 4, 4)],
		build: (g, x) =>
			resizeBy(g, x!, [1, 1, 1.5, 2], { mode: 'nearest', coordinate_transformation_mode: 'asymmetric', nearest_mode: 'ceil' }),
	},
	{
		op: 'Resize',
		name: 'nearest, align_corners',
		inputs: [of(1, 1, 4, 3)],
		build: (g, x) =>
			resizeTo(g, x!, [1, 1, 7, 5], {
				mode: 'nearest',
				coordinate_transformation_mode: 'align_corners',
				nearest_mode: 'round_prefer_ceil',
			}),
	},
	{
		op: 'Resize',
		name: 'linear, half_pixel',
		inputs: [of(2, 2, 3, 4)],
		build: (g, x) => resizeTo(g, x!, [2, 2, 6, 5], { mode: 'linear', coordinate_transformation_mode: 'half_pixel' }),
	},
	{
		op: 'Resize',
		name: 'linear, align_corners',
		inputs: [of(1, 2, 3, 3)],
		build: (g, x) => resizeTo(g, x!, [1, 2, 5, 7], { mode: 'linear', coordinate_transformation_mode: 'align_corners' }),
	},
	{
		op: 'Resize',
		name: 'linear down by scales, asymmetric',
		inputs: [of(1, 2, 6, 4)],
		build: (g, x) => resizeBy(g, x!, [1, 1, 0.5, 1.5], { mode: 'linear', coordinate_transformation_mode: 'asymmetric' }),
	},
];

const shapeOnlyCases: readonly OpCase[] = [
	{ op: 'Reshape', name: '0 and -1', inputs: [of(2, 3, 4)], build: (g, x) => g.one('Reshape', [x, g.ints([0, -1, 2])]) },
	{ op: 'Transpose', name: 'perm', inputs: [of(2, 3, 4)], build: (g, x) => g.transpose(x!, [2, 0, 1]) },
	{ op: 'Transpose', name: 'reversed', inputs: [of(2, 3, 4)], build: (g, x) => g.one('Transpose', [x]) },
	{
		op: 'Concat',
		name: 'three along axis -2',
		inputs: [of(2, 1, 3), of(2, 3, 3), of(2, 2, 3)],
		build: (g, ...xs) => g.concat(xs, -2),
	},
	{ op: 'Split', name: 'sizes', inputs: [of(2, 6)], build: (g, x) => g.split(x!, [1, 3, 2], -1) },
	{
		op: 'Split',
		name: 'num_outputs with a smaller last',
		inputs: [of(5, 2)],
		build: (g, x) => g.emit('Split', [x], { num_outputs: 3 }, 3),
	},
	{ op: 'Split', name: 'one piece used', inputs: [of(2, 6)], build: (g, x) => g.split(x!, [1, 3, 2], 1)[1]! },
	{ op: 'Slice', name: 'two axes', inputs: [of(4, 5, 3)], build: (g, x) => g.slice(x!, [1, -4], [3, -1], [0, 1]) },
	{ op: 'Slice', name: 'step 2', inputs: [of(2, 7)], build: (g, x) => g.slice(x!, [1], [100], [1], [2]) },
	{ op: 'Slice', name: 'backwards', inputs: [of(5, 2)], build: (g, x) => g.slice(x!, [-1], [-100], [0], [-1]) },
	{ op: 'Slice', name: 'backwards by 3', inputs: [of(8, 2)], build: (g, x) => g.slice(x!, [6, 0], [0, 1], [0, 1], [-3, 1]) },
	{ op: 'Expand', name: 'new axis and a broadcast one', inputs: [of(3, 1)], build: (g, x) => g.expand(x!, [2, 1, 4]) },
	{ op: 'Squeeze', name: 'axes', inputs: [of(1, 3, 1, 2)], build: (g, x) => g.squeeze(x!, [0, -2]) },
	{ op: 'Squeeze', name: 'all', inputs: [of(1, 3, 1)], build: (g, x) => g.one('Squeeze', [x]) },
	{ op: 'Unsqueeze', name: 'axes', inputs: [of(3, 2)], build: (g, x) => g.unsqueeze(x!, [0, -1]) },
	{ op: 'Flatten', name: 'axis 2', inputs: [of(2, 3, 4)], build: (g, x) => g.flatten(x!, 2) },
	{ op: 'Flatten', name: 'axis -1', inputs: [of(2, 3, 4)], build: (g, x) => g.flatten(x!, -1) },
	{ op: 'Pad', name: 'constant', inputs: [of(2, 3)], build: (g, x) => g.pad(x!, [1, 0, 2, 3], 0.5) },
	{ op: 'Pad', name: 'constant, cutting off', inputs: [of(4, 3)], build: (g, x) => g.pad(x!, [-1, 2, 1, -1]) },
	{
		op: 'Pad',
		name: 'axes and a value that takes a gradient',
		inputs: [of(2, 3), of()],
		build: (g, x, value) => g.one('Pad', [x, g.ints([1, 2]), value, g.ints([-1])], { mode: 'constant' }),
	},
	{ op: 'Pad', name: 'reflect', inputs: [of(3, 4)], build: (g, x) => g.pad(x!, [2, 0, 1, 3], undefined, 'reflect') },
	{ op: 'Pad', name: 'edge', inputs: [of(3, 2)], build: (g, x) => g.pad(x!, [2, 0, 1, 3], undefined, 'edge') },
	{ op: 'Tile', name: 'two axes', inputs: [of(2, 3)], build: (g, x) => g.tile(x!, [3, 2]) },
	{ op: 'Tile', name: 'one axis', inputs: [of(2, 3)], build: (g, x) => g.tile(x!, [1, 2]) },
	{ op: 'DepthToSpace', name: 'DCR', inputs: [of(2, 8, 2, 3)], build: (g, x) => g.depthToSpace(x!, 2) },
	{ op: 'DepthToSpace', name: 'CRD', inputs: [of(2, 8, 2, 3)], build: (g, x) => g.depthToSpace(x!, 2, 'CRD') },
	{ op: 'SpaceToDepth', name: 'blocks of 2', inputs: [of(2, 2, 4, 6)], build: (g, x) => g.spaceToDepth(x!, 2) },
];

const indexCases: readonly OpCase[] = [
	{
		op: 'Gather',
		name: 'rows, repeated and negative',
		inputs: [of(4, 3), indices([2, 3], 0, -1, 2, 2, 0, -4)],
		build: (g, x, i) => g.gather(x!, i!),
	},
	{ op: 'Gather', name: 'middle axis', inputs: [of(2, 4, 3), indices([2, 2], 1, 3, 3, -2)], build: (g, x, i) => g.gather(x!, i!, 1) },
	{
		op: 'Gather',
		name: 'scalar index, int32',
		inputs: [of(2, 4), { ...indices([], 2), dtype: 'int32' }],
		build: (g, x, i) => g.gather(x!, i!, -1),
	},
	{
		op: 'GatherElements',
		name: 'fewer rows than the data',
		inputs: [of(3, 4), indices([2, 3], 0, -1, 2, 2, 0, 1)],
		build: (g, x, i) => g.gatherElements(x!, i!, 1),
	},
	{
		op: 'ScatterElements',
		name: 'none',
		inputs: [of(3, 4), indices([2, 2], 0, -1, 2, 1), of(2, 2)],
		build: (g, x, i, u) => g.scatterElements(x!, i!, u!, 1),
	},
	{
		op: 'ScatterElements',
		name: 'add, repeated',
		inputs: [of(3, 4), indices([2, 2], 0, -1, 0, 1), of(2, 2)],
		build: (g, x, i, u) => g.scatterElements(x!, i!, u!, 0, 'add'),
	},
	{
		op: 'ScatterND',
		name: 'none, single elements',
		inputs: [of(3, 4), indices([3, 2], 0, 1, 2, -1, -2, 0), of(3)],
		build: (g, x, i, u) => g.scatterND(x!, i!, u!),
	},
	{
		op: 'ScatterND',
		name: 'add rows, repeated',
		inputs: [of(3, 4), indices([2, 2, 1], 0, -1, 2, 0), of(2, 2, 4)],
		build: (g, x, i, u) => g.scatterND(x!, i!, u!, 'add'),
	},
	{ op: 'OneHot', name: 'last axis', inputs: [indices([2, 2], 0, 2, -1, 5)], build: (g, i) => g.oneHot(i!, 3, -1, 2) },
	{ op: 'OneHot', name: 'first axis', inputs: [indices([3], 1, 0, 2)], build: (g, i) => g.oneHot(i!, 4, 0, 1, 0) },
	{ op: 'Trilu', name: 'upper', inputs: [of(2, 3, 4)], build: (g, x) => g.trilu(x!, true, 1) },
	{ op: 'Trilu', name: 'lower', inputs: [of(4, 3)], build: (g, x) => g.trilu(x!, false, -1) },
	{ op: 'Shape', name: 'whole', inputs: [of(2, 3, 4)], build: (g, x) => g.one('Shape', [x]) },
	{ op: 'Shape', name: 'start and end', inputs: [of(2, 3, 4)], build: (g, x) => g.one('Shape', [x], { start: -2, end: -1 }) },
	{
		op: 'ConstantOfShape',
		name: 'int64',
		inputs: [],
		build: (g) => g.one('ConstantOfShape', [g.ints([2, 3])], { value: 7, dtype: onnxElementType.int64 }),
	},
	{ op: 'ConstantOfShape', name: 'zeros', inputs: [], build: (g) => g.one('ConstantOfShape', [g.ints([3])]) },
	{
		op: 'Range',
		name: 'int64, backwards',
		inputs: [],
		build: (g) => g.one('Range', [g.scalar(7, 'int64'), g.scalar(0, 'int64'), g.scalar(-3, 'int64')]),
	},
	{ op: 'Range', name: 'float32', inputs: [], build: (g) => g.one('Range', [g.scalar(1), g.scalar(2), g.scalar(0.25)]) },
];

const fusedCases: readonly Omit<OpCase, 'gradient'>[] = [
	{
		op: 'FusedMatMul',
		name: 'alpha, both transposed',
		inputs: [of(2, 4, 3), of(2, 5, 4)],
		build: (g, a, b) => g.one('FusedMatMul', [a, b], { alpha: 0.5, transA: 1, transB: 1 }),
	},
	{
		op: 'FusedMatMul',
		name: 'batch axes behind the first',
		inputs: [of(3, 2, 4), of(4, 2, 5)],
		build: (g, a, b) => g.one('FusedMatMul', [a, b], { transBatchA: 1, transBatchB: 1 }),
	},
	{
		op: 'FusedMatMul',
		name: 'batch axes and transposed',
		inputs: [of(4, 2, 3), of(2, 4, 5)],
		build: (g, a, b) => g.one('FusedMatMul', [a, b], { transBatchA: 1, transA: 1 }),
	},
	{ op: 'FastGelu', name: 'with bias', inputs: [of(2, 3, 4), of(4)], build: (g, x, b) => g.one('FastGelu', [x, b]) },
	{ op: 'FastGelu', name: 'without bias', inputs: [of(2, 3)], build: (g, x) => g.one('FastGelu', [x]) },
	{ op: 'QuickGelu', name: 'alpha', inputs: [of(2, 3)], build: (g, x) => g.one('QuickGelu', [x], { alpha: 1 }) },
	{ op: 'BiasGelu', name: 'bias', inputs: [of(2, 3, 4), of(4)], build: (g, x, b) => g.one('BiasGelu', [x, b]) },
	{
		op: 'SkipLayerNormalization',
		name: 'gamma only',
		inputs: [of(2, 3, 4), of(2, 3, 4), of(4)],
		build: (g, x, skip, gamma) => g.one('SkipLayerNormalization', [x, skip, gamma], { epsilon: 1e-5 }),
	},
	{
		op: 'SkipLayerNormalization',
		name: 'everything, skip over the batch, with the sum',
		inputs: [of(2, 3, 4), of(3, 4), of(4), of(4), of(4)],
		build: (g, ...xs) => {
			const [y, , , sum] = g.emit('SkipLayerNormalization', xs, { epsilon: 1e-5 }, 4);
			return [y!, sum!];
		},
	},
];

/** Made after differentiation only: they have no gradient to check. */
const loweredCases: readonly OpCase[] = fusedCases.map((c) => ({ ...c, gradient: false }));

export const shapeCases: readonly OpCase[] = [...convCases, ...poolCases, ...shapeOnlyCases, ...indexCases, ...loweredCases];
