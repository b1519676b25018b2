/** @file Graphs that the ONNX tests write and read. */
import { type DType, sizeOf, type Tensor, tensor } from '../../../src/core/tensor.ts';
import { createBuilder } from '../../../src/graph/builder.ts';
import type { Graph } from '../../../src/graph/types.ts';

/** A tensor of small, varied numbers that every element type holds exactly. */
export function sample(dtype: DType, shape: readonly number[], from = 0): Tensor {
	return tensor(
		dtype,
		shape,
		Array.from({ length: sizeOf(shape) }, (_, i) => (((i + from) * 7) % 11) / (dtype.includes('float') ? 4 : 1)),
	);
}

/** Two linear layers with a normalisation between: scopes, attributes of every kind but strings, an unused second and third output. */
export function mlp(): Graph {
	const g = createBuilder('mlp');
	const x = g.input('x', 'float32', [2, 3]);
	const hidden = g.scope('fc1', () =>
		g.gemm(x, g.constant(sample('float32', [4, 3]), 'fc1.weight'), g.constant(sample('float32', [4], 3), 'fc1.bias'), {
			transB: true,
			alpha: 0.5,
		}),
	);
	const normed = g.scope('norm', () => g.layerNorm(hidden, g.constant(sample('float32', [4], 1), 'norm.weight'), undefined, 1e-5).y);
	const y = g.scope('fc2', () => g.matMul(normed, g.constant(sample('float32', [4, 2], 5), 'fc2.weight')));
	return g.finish([g.softmax(y, 1)]);
}

/** Convolution, reshapes, splits and a string attribute. */
export function image(): Graph {
	const g = createBuilder('image');
	const x = g.input('x', 'float32', [1, 2, 4, 4]);
	const h = g.scope('conv', () =>
		g.conv(x, g.constant(sample('float32', [4, 2, 3, 3]), 'conv.weight'), undefined, { pads: [1, 1, 1, 1], strides: [1, 1] }),
	);
	const [a, b] = g.split(g.gelu(h, 'tanh'), [1, 3], 1);
	const rows = g.transpose(g.reshape(g.concat([b!, a!], 1), [4, 16]), [1, 0]);
	return g.finish([g.reduceMean(rows, [0], false), g.slice(rows, [0], [8], [0])]);
}
