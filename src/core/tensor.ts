/** @file Element types, shapes and host tensors: plain data every layer of the project shares. */
import { DiffusionPipeError } from './errors.ts';

/** Element types we hold on the host, by their ONNX/safetensors-neutral names. */
export type DType = 'float32' | 'float64' | 'float16' | 'bfloat16' | 'int64' | 'int32' | 'int8' | 'uint8' | 'bool';

/** Dimensions, outermost first. All shapes in a graph are concrete. */
export type Shape = readonly number[];

/** An element type with a shape: what inference yields. */
export interface TypeShape {
	readonly dtype: DType;
	readonly shape: Shape;
}

/** The array that holds each element type. float16 and bfloat16 are raw 16-bit patterns, bool is one byte. */
export interface ArrayOf {
	float32: Float32Array;
	float64: Float64Array;
	float16: Uint16Array;
	bfloat16: Uint16Array;
	int64: BigInt64Array;
	int32: Int32Array;
	int8: Int8Array;
	uint8: Uint8Array;
	bool: Uint8Array;
}

/** Any host array of elements. */
export type TensorArray = ArrayOf[DType];

/** A dense row-major tensor on the host. */
export interface Tensor<D extends DType = DType> {
	readonly dtype: D;
	readonly shape: Shape;
	readonly data: ArrayOf[D];
}

const constructors = {
	float32: Float32Array,
	float64: Float64Array,
	float16: Uint16Array,
	bfloat16: Uint16Array,
	int64: BigInt64Array,
	int32: Int32Array,
	int8: Int8Array,
	uint8: Uint8Array,
	bool: Uint8Array,
} as const;

/** Bytes of one element. */
export function bytesPerElement(dtype: DType): number {
	return constructors[dtype].BYTES_PER_ELEMENT;
}

/** Number of elements of a shape (1 for a scalar). */
export function sizeOf(shape: Shape): number {
	let size = 1;
	for (const d of shape) size *= d;
	return size;
}

/** Bytes of a dense tensor of this type and shape. */
export function byteSize({ dtype, shape }: TypeShape): number {
	return sizeOf(shape) * bytesPerElement(dtype);
}

/** Row-major strides in elements. */
export function stridesOf(shape: Shape): number[] {
	const strides = new Array<number>(shape.length);
	let stride = 1;
	for (let i = shape.length - 1; i >= 0; i--) {
		strides[i] = stride;
		stride *= shape[i]!;
	}
	return strides;
}

/** True when both shapes have the same dimensions. */
export function sameShape(a: Shape, b: Shape): boolean {
	return a.length === b.length && a.every((d, i) => d === b[i]);
}

/** A zero-filled array of `length` elements, or one viewing `buffer` from `byteOffset`. */
export function makeArray<D extends DType>(dtype: D, length: number, buffer?: ArrayBufferLike, byteOffset = 0): ArrayOf[D] {
	const make = constructors[dtype];
	return (buffer === undefined ? new make(length) : new make(buffer as ArrayBuffer, byteOffset, length)) as ArrayOf[D];
}

/** A tensor of zeros. */
export function zeros<D extends DType>(dtype: D, shape: Shape): Tensor<D> {
	return { dtype, shape, data: makeArray(dtype, sizeOf(shape)) };
}

/**
 * A tensor of `values` in row-major order, converted to `dtype` as by {@link writeElement}; a bigint keeps every digit in int64.
 * @throws DiffusionPipeError when there are more or fewer values than the shape holds
 */
export function tensor<D extends DType>(dtype: D, shape: Shape, values: Iterable<number | bigint>): Tensor<D> {
	const data = makeArray(dtype, sizeOf(shape));
	let i = 0;
	const misfit = (found: string): never => {
		throw new DiffusionPipeError('internal', 'the values do not fill the shape', {
			place: `tensor ${describe({ dtype, shape })}`,
			expected: `${data.length} values`,
			found,
		});
	};
	for (const v of values) {
		if (i === data.length) misfit('more');
		if (dtype === 'int64' && typeof v === 'bigint') (data as BigInt64Array)[i++] = clampInt64(v);
		else writeElement(dtype, data, i++, Number(v));
	}
	if (i !== data.length) misfit(`${i}`);
	return { dtype, shape, data };
}

/** Shorthand for an int64 vector, the form of shapes and axes given as ONNX inputs. */
export function int64Vector(values: readonly number[]): Tensor<'int64'> {
	return tensor('int64', [values.length], values);
}

/** Element `i` as a number (half types decoded, int64 narrowed). */
export function readElement(dtype: DType, data: TensorArray, i: number): number {
	const raw = data[i]!;
	if (dtype === 'float16') return halfToNumber(raw as number);
	if (dtype === 'bfloat16') return bfloat16ToNumber(raw as number);
	return Number(raw);
}

/**
 * Stores `value` as element `i`. Float types round to nearest, ties to even. bool is 1 for all but 0 (NaN too). Integers drop the fraction and take
 * NaN as 0; beyond their range int64 saturates (infinities too), the narrower ones keep the low bits (infinities: 0), as JavaScript's arrays do.
 */
export function writeElement(dtype: DType, data: TensorArray, i: number, value: number): void {
	if (dtype === 'int64') (data as BigInt64Array)[i] = numberToInt64(value);
	else if (dtype === 'float16') (data as Uint16Array)[i] = numberToHalf(value);
	else if (dtype === 'bfloat16') (data as Uint16Array)[i] = numberToBfloat16(value);
	else if (dtype === 'bool') (data as Uint8Array)[i] = value !== 0 ? 1 : 0;
	else (data as Float32Array)[i] = value;
}

const largestInt64 = 2n ** 63n - 1n;

function clampInt64(value: bigint): bigint {
	if (value > largestInt64) return largestInt64;
	return value < -largestInt64 ? -largestInt64 - 1n : value;
}

function numberToInt64(value: number): bigint {
	if (Number.isFinite(value)) return clampInt64(BigInt(Math.trunc(value)));
	if (Number.isNaN(value)) return 0n;
	return value > 0 ? largestInt64 : -largestInt64 - 1n;
}

/** The tensor's elements as numbers. */
export function toNumbers(t: Tensor): number[] {
	return Array.from({ length: t.data.length }, (_, i) => readElement(t.dtype, t.data, i));
}

const f32 = new Float32Array(1);
const u32 = new Uint32Array(f32.buffer);

/**
 * The float32 bits of `value` cut off towards zero, with the last bit set when that lost anything: rounding them on to fewer bits gives what rounding
 * `value` itself would, where the nearest float32 could have made a tie of what was none.
 */
function cutToFloat32(value: number): number {
	f32[0] = value;
	const near = f32[0]!;
	if (near === value || Number.isNaN(value)) return u32[0]!;
	const cut = Math.abs(near) > Math.abs(value) ? u32[0]! - 1 : u32[0]!;
	return (cut | 1) >>> 0;
}

/** IEEE binary16 bits to a number. */
export function halfToNumber(h: number): number {
	const sign = h & 0x8000 ? -1 : 1;
	const exponent = (h >> 10) & 31;
	const fraction = h & 1023;
	if (exponent === 0) return sign * fraction * 2 ** -24;
	if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
	return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** A number to IEEE binary16 bits, to nearest even. */
export function numberToHalf(value: number): number {
	const bits = cutToFloat32(value);
	const sign = (bits >>> 16) & 0x8000;
	const magnitude = bits & 0x7fffffff;
	if (magnitude > 0x7f800000) return sign | 0x7e00;
	if (magnitude >= 0x477ff000) return sign | 0x7c00;
	if (magnitude < 0x38800000) {
		// Subnormal: scaling by 2^24 makes the half's last bit the number's unit, so rounding to an integer is rounding to half.
		const scaled = Math.abs(value) * 2 ** 24;
		const floor = Math.floor(scaled);
		const rest = scaled - floor;
		return sign | (rest > 0.5 || (rest === 0.5 && floor & 1) ? floor + 1 : floor);
	}
	const rounded = magnitude + 0xfff + ((magnitude >>> 13) & 1);
	return sign | ((rounded - 0x38000000) >>> 13);
}

/** bfloat16 bits to a number. */
export function bfloat16ToNumber(b: number): number {
	u32[0] = b << 16;
	return f32[0]!;
}

/** A number to bfloat16 bits, to nearest even. */
export function numberToBfloat16(value: number): number {
	const bits = cutToFloat32(value);
	if ((bits & 0x7fffffff) > 0x7f800000) return ((bits >>> 16) | 0x40) & 0xffff;
	return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}

/** `float32[2,3]`, for messages and dumps. */
export function describe({ dtype, shape }: TypeShape): string {
	return `${dtype}[${shape.join(',')}]`;
}
