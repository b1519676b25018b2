/** @file What layers are written against: a graph builder, a parameter path, and declared parameters. */
import { DiffusionPipeError } from '../core/errors.ts';
import { type Shape, sameShape } from '../core/tensor.ts';
import type { ConvOptions } from '../graph/builder/product.ts';
import type { GraphBuilder } from '../graph/builder.ts';
import type { Value } from '../graph/types.ts';

/** How a parameter starts. `fan` counts are of the weight seen as a matrix [out, in]. */
export type Init =
	| { readonly kind: 'zeros' }
	| { readonly kind: 'ones' }
	| { readonly kind: 'constant'; readonly value: number }
	| { readonly kind: 'normal'; readonly std: number }
	/** Uniform in [-bound, bound]. */
	| { readonly kind: 'uniform'; readonly bound: number }
	/** Glorot: uniform with bound sqrt(6 / (fanIn + fanOut)). */
	| { readonly kind: 'xavier_uniform'; readonly fanIn: number; readonly fanOut: number }
	/** The fixed table [1, side * side, channels] of `positionSinusoid2d`. */
	| { readonly kind: 'position_sinusoid_2d'; readonly channels: number; readonly side: number; readonly baseSize: number };

/** A tensor of the model, under the name the published checkpoints use. */
export interface Parameter {
	readonly name: string;
	readonly shape: Shape;
	readonly init: Init;
	/** False for a buffer: checkpoints hold it, training leaves it as it is. */
	readonly trained: boolean;
}

/** What is added to a projection of a model: a function of its input and its output that gives what the layer's output becomes. */
export interface Adapter {
	/** A linear layer, x [N, in] to y [N, out]; `kernel` is what its weight's shape has beyond [out, in], [1, 1] of a convolution computed on rows. */
	linear(x_NI: Value, y_NO: Value, kernel: readonly number[]): Value;
	/** A convolution, x [B, in, H, W] to y [B, out, H', W']. */
	conv(x: Value, y: Value, kernel: readonly number[], options: ConvOptions): Value;
}

/** The surroundings of a layer being built. `at` descends the parameter path, which is also the path of its nodes. */
export interface LayerContext {
	readonly g: GraphBuilder;
	readonly path: string;
	/** The parameter `path.name`; asking twice gives the same value. */
	param(name: string, shape: Shape, init: Init): Value;
	/** The same for a tensor that is saved but not trained (PyTorch's persistent buffers). */
	buffer(name: string, shape: Shape, init: Init): Value;
	at<T>(name: string, body: (ctx: LayerContext) => T): T;
	/** Of the projection whose weight is `path.weight`, where something is added to it. */
	readonly adapter?: Adapter | undefined;
}

/** A context that declares parameters as inputs of `g` and notes them in `parameters`. */
export function createContext(g: GraphBuilder, parameters: Map<string, Parameter>): LayerContext {
	const values = new Map<string, Value>();
	const declare = (full: string, shape: Shape, init: Init, trained: boolean): Value => {
		const known = values.get(full);
		if (known) {
			if (!sameShape(known.shape, shape)) {
				throw new DiffusionPipeError('graph', 'a parameter is used with two shapes', {
					place: full,
					expected: `[${known.shape.join(',')}]`,
					found: `[${shape.join(',')}]`,
				});
			}
			return known;
		}
		parameters.set(full, { name: full, shape, init, trained });
		const value = g.input(full, 'float32', shape);
		values.set(full, value);
		return value;
	};
	const make = (path: string): LayerContext => ({
		g,
		path,
		param: (name, shape, init) => declare(path === '' ? name : `${path}.${name}`, shape, init, true),
		buffer: (name, shape, init) => declare(path === '' ? name : `${path}.${name}`, shape, init, false),
		at: (name, body) => g.scope(name, () => body(make(path === '' ? name : `${path}.${name}`))),
	});
	return make('');
}
