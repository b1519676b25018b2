/** @file The fill of ConstantOfShape: ONNX keeps number and type in one tensor of one element, our attributes are `value` and `dtype`. */
import { readElement, sizeOf, tensor } from '../../core/tensor.ts';
import { dtypeOfOnnx, onnxElementType } from '../builder/elementwise.ts';
import type { Attributes } from '../types.ts';
import type { Fail } from './attributes.ts';
import type { AttributeProto } from './schema.ts';
import { tensorFields, tensorFromProto } from './tensors.ts';
import { intField, messageField, type OutField, stringField } from './wire.ts';

/** ONNX's default fill is a float32 zero. */
const defaults = { value: 0, dtype: onnxElementType.float32 };

/** Our attributes of a ConstantOfShape node of a file; none where it has none. */
export function constantOfShape(protos: ReadonlyMap<string, AttributeProto>, place: string, fail: Fail): Attributes {
	const proto = protos.get('value');
	if (!proto)
		return protos.size === 0 ? {} : fail('an attribute is not supported', { expected: 'value', found: [...protos.keys()].join(', ') });
	if (proto.kind !== 'tensor') return fail('attribute value is of another kind', { expected: 'tensor', found: proto.kind });
	const fill = tensorFromProto(proto.value, place);
	if (sizeOf(fill.shape) !== 1) return fail('attribute value is not one number', { found: `${fill.data.length} elements` });
	return { value: readElement(fill.dtype, fill.data, 0), dtype: onnxElementType[fill.dtype] };
}

/**
 * Fields of the AttributeProto, with ONNX's default for a missing number or type; undefined when the attributes are not a number and the ONNX
 * number of a type we hold.
 */
export function fillFields(attributes: Attributes): OutField[] | undefined {
	const { value, dtype } = { ...defaults, ...attributes };
	const type = typeof dtype === 'number' ? dtypeOfOnnx(dtype) : undefined;
	if (typeof value !== 'number' || !type) return undefined;
	return [stringField(1, 'value'), messageField(5, tensorFields(tensor(type, [1], [value]))), intField(20, 4)];
}
