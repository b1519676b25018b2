/** @file Tensors as ONNX stores them: TensorProto to host tensor and back. */
import { DiffusionPipeError } from '../../core/errors.ts';
import { byteSize, bytesPerElement, type DType, describe, makeArray, type Tensor, type TensorArray } from '../../core/tensor.ts';
import { dtypeOfOnnx, onnxElementType } from '../builder/elementwise.ts';
import type { TensorProto } from './schema.ts';
import { bytesField, intField, type OutField, stringField } from './wire.ts';

/** Names of the element types ONNX has and we do not hold, for errors. */
const otherTypes: Readonly<Record<number, string>> = {
	0: 'none, or something other than a tensor',
	4: 'uint16',
	5: 'int16',
	8: 'string',
	12: 'uint32',
	13: 'uint64',
	14: 'complex64',
	15: 'complex128',
	17: 'float8e4m3fn',
	18: 'float8e4m3fnuz',
	19: 'float8e5m2',
	20: 'float8e5m2fnuz',
	21: 'uint4',
	22: 'int4',
	23: 'float4e2m1',
};

/** Our element type of ONNX's number; throws an input error that names the type when we do not hold it. */
export function elementType(type: number, place: string): DType {
	const dtype = dtypeOfOnnx(type);
	if (dtype) return dtype;
	throw new DiffusionPipeError('input', 'the element type is not supported', {
		place,
		expected: Object.keys(onnxElementType).join(', '),
		found: otherTypes[type] ?? `ONNX type number ${type}`,
	});
}

/** The host tensor of a TensorProto, copied out of the file; throws an input error when the data are elsewhere or do not fit the shape. */
export function tensorFromProto(proto: TensorProto, place: string): Tensor {
	const at = `${place}, tensor ${proto.name || '(no name)'}`;
	if (proto.external) {
		throw new DiffusionPipeError('input', 'the data stand in another file', {
			place: at,
			expected: 'data inside the model',
			hint: 'save the model as one file, in Python: onnx.save_model(onnx.load(path), new_path, save_as_external_data=False)',
		});
	}
	const dtype = elementType(proto.dataType, at);
	const type = { dtype, shape: proto.dims };
	const bytes = byteSize(type);
	if (!Number.isSafeInteger(bytes) || proto.dims.some((d) => d < 0)) {
		throw new DiffusionPipeError('input', 'the shape is impossible', { place: at, found: describe(type) });
	}
	const count = bytes / bytesPerElement(dtype);
	const found = proto.raw ? proto.raw.length : dtype === 'float32' || dtype === 'float64' ? proto.floats.length : proto.ints.length;
	if (found !== (proto.raw ? bytes : count)) {
		throw new DiffusionPipeError('input', 'the data do not fill the shape', {
			place: at,
			expected: proto.raw ? `${bytes} bytes for ${describe(type)}` : `${count} elements for ${describe(type)}`,
			found: `${found}`,
		});
	}
	// A view would need aligned bytes and would keep the whole file in memory.
	if (proto.raw) return { ...type, data: makeArray(dtype, count, proto.raw.slice().buffer) };
	const data: TensorArray = makeArray(dtype, count);
	if (dtype === 'float32' || dtype === 'float64') (data as Float32Array).set(proto.floats);
	else if (dtype === 'int64') (data as BigInt64Array).set(proto.ints);
	else (data as Int32Array).set(proto.ints.map(Number));
	return { ...type, data };
}

/** Fields of a TensorProto holding `t` as raw_data. The bytes are `t`'s own (little-endian, as every JavaScript engine we run on keeps them). */
export function tensorFields(t: Tensor, name?: string): OutField[] {
	const { buffer, byteOffset, byteLength } = t.data;
	return [
		...t.shape.map((d) => intField(1, d)),
		intField(2, onnxElementType[t.dtype]),
		...(name === undefined ? [] : [stringField(8, name)]),
		bytesField(9, new Uint8Array(buffer, byteOffset, byteLength)),
	];
}
