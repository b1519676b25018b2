/** @file Widens half-precision tensors, as weights are often stored, to float32. */
import { DiffusionPipeError } from '../core/errors.ts';
import { describe, halfToNumber, type Tensor } from '../core/tensor.ts';

/** Every binary16 pattern as float32; made on first use (256 KB), since decoding by arithmetic is ten times slower. */
let halves: Float32Array | undefined;

/**
 * A float tensor as float32: float32 is passed through unchanged (not copied), float16 and bfloat16 are widened exactly, float64 is rounded.
 * @throws DiffusionPipeError when the tensor does not hold floating-point numbers
 */
export function toFloat32(tensor: Tensor): Tensor<'float32'> {
	const { dtype, shape, data } = tensor;
	switch (dtype) {
		case 'float32':
			return tensor as Tensor<'float32'>;
		case 'float64':
			return { dtype: 'float32', shape, data: Float32Array.from(data as Float64Array) };
		case 'float16': {
			halves ??= Float32Array.from({ length: 65536 }, (_, bits) => halfToNumber(bits));
			const out = new Float32Array(data.length);
			for (let i = 0; i < out.length; i++) out[i] = halves[(data as Uint16Array)[i]!]!;
			return { dtype: 'float32', shape, data: out };
		}
		case 'bfloat16': {
			// A bfloat16 is the upper half of a float32; written as integers so that NaN patterns stay as they are.
			const out = new Uint32Array(data.length);
			for (let i = 0; i < out.length; i++) out[i] = (data as Uint16Array)[i]! << 16;
			return { dtype: 'float32', shape, data: new Float32Array(out.buffer) };
		}
		default:
			throw new DiffusionPipeError('input', 'cannot be taken as float32', {
				place: 'toFloat32',
				expected: 'float32, float64, float16 or bfloat16',
				found: describe(tensor),
			});
	}
}
