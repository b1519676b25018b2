/** @file Builder functions: matrix products, convolutions, pooling and resizing. */
import type { EmitTools } from '../builder.ts';
import type { Attributes, Value } from '../types.ts';

export interface ConvOptions {
	readonly strides?: readonly number[];
	/** Padding per spatial axis: all begins, then all ends, as in ONNX. */
	readonly pads?: readonly number[];
	readonly dilations?: readonly number[];
	readonly group?: number;
}

export interface PoolOptions {
	readonly kernel: readonly number[];
	readonly strides?: readonly number[];
	readonly pads?: readonly number[];
	readonly countIncludePad?: boolean;
}

const convAttributes = ({ strides, pads, dilations, group }: ConvOptions): Attributes => ({
	...(strides ? { strides } : {}),
	...(pads ? { pads } : {}),
	...(dilations ? { dilations } : {}),
	...(group === undefined ? {} : { group }),
});

const poolAttributes = ({ kernel, strides, pads }: PoolOptions): Attributes => ({
	kernel_shape: kernel,
	...(strides ? { strides } : {}),
	...(pads ? { pads } : {}),
});

/** Functions for products, convolutions, pooling, resizing. */
export function productFunctions(t: EmitTools) {
	return {
		matMul: (a: Value, b: Value): Value => t.one('MatMul', [a, b]),
		/** alpha * op(a) op(b) + beta * c on matrices. */
		gemm: (a: Value, b: Value, c?: Value, options: { transA?: boolean; transB?: boolean; alpha?: number; beta?: number } = {}): Value =>
			t.one('Gemm', c ? [a, b, c] : [a, b], {
				...(options.transA ? { transA: 1 } : {}),
				...(options.transB ? { transB: 1 } : {}),
				...(options.alpha === undefined ? {} : { alpha: options.alpha }),
				...(options.beta === undefined ? {} : { beta: options.beta }),
			}),
		/** x [batch, channels, ...spatial], weight [out, in/group, ...kernel], bias [out]. */
		conv: (x: Value, weight: Value, bias?: Value, options: ConvOptions = {}): Value =>
			t.one('Conv', bias ? [x, weight, bias] : [x, weight], convAttributes(options)),
		/** x [batch, in, ...spatial], weight [in, out/group, ...kernel], bias [out]. */
		convTranspose: (x: Value, weight: Value, bias?: Value, options: ConvOptions & { outputPadding?: readonly number[] } = {}): Value =>
			t.one('ConvTranspose', bias ? [x, weight, bias] : [x, weight], {
				...convAttributes(options),
				...(options.outputPadding ? { output_padding: options.outputPadding } : {}),
			}),
		averagePool: (x: Value, options: PoolOptions): Value =>
			t.one('AveragePool', [x], { ...poolAttributes(options), ...(options.countIncludePad ? { count_include_pad: 1 } : {}) }),
		globalAveragePool: (x: Value): Value => t.one('GlobalAveragePool', [x]),
		maxPool: (x: Value, options: PoolOptions): Value => t.one('MaxPool', [x], poolAttributes(options)),
		/** Nearest-neighbour (floor, asymmetric) upsampling of [batch, channels, height, width] by whole factors. */
		upsampleNearest: (x: Value, scales: readonly number[]): Value =>
			t.one('Resize', [x, undefined, undefined, t.ints(x.shape.map((d, i) => d * (scales[i] ?? 1)))], {
				mode: 'nearest',
				nearest_mode: 'floor',
				coordinate_transformation_mode: 'asymmetric',
			}),
	};
}
