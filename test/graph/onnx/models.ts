/** @file ONNX models made with the protobuf schema of the ONNX project, as other exporters make them; and a run in ONNX Runtime. */
import onnxProto from 'onnx-proto';
import { InferenceSession, Tensor as OrtTensor } from 'onnxruntime-node';
import { makeArray, type Tensor } from '../../../src/core/tensor.ts';
import { onnxElementType } from '../../../src/graph/builder/elementwise.ts';

const { onnx } = onnxProto;

export interface ModelSpec {
	readonly opset?: number;
	readonly irVersion?: number;
	readonly inputs: readonly onnxProto.onnx.IValueInfoProto[];
	readonly nodes: readonly onnxProto.onnx.INodeProto[];
	readonly initializers?: readonly onnxProto.onnx.ITensorProto[];
	/** Names; their types are left out where ONNX Runtime infers them. */
	readonly outputs: readonly string[];
	readonly domains?: Readonly<Record<string, number>>;
}

/** Bytes of a model. */
export function encodeModel({ opset = 13, irVersion = 7, inputs, nodes, initializers = [], outputs, domains = {} }: ModelSpec): Uint8Array {
	const imports = Object.entries({ '': opset, ...domains }).map(([domain, version]) => ({ domain, version }));
	const graph = {
		name: 'test',
		input: [...inputs],
		node: [...nodes],
		initializer: [...initializers],
		output: outputs.map((name) => ({ name })),
	};
	return onnx.ModelProto.encode({ irVersion, producerName: 'pytorch', opsetImport: imports, graph }).finish();
}

/** A graph input; a dimension may be a number, a symbol, or '' for an unknown one. */
export function input(name: string, elemType: number, dims: readonly (number | string)[]): onnxProto.onnx.IValueInfoProto {
	const dim = dims.map((d) => (typeof d === 'number' ? { dimValue: d } : d === '' ? {} : { dimParam: d }));
	return { name, type: { tensorType: { elemType, shape: { dim } } } };
}

type Plain = number | string | readonly number[] | onnxProto.onnx.ITensorProto;

/** A node; whole numbers become INT or INTS attributes, others FLOAT or FLOATS. `floats` names attributes that are FLOAT all the same. */
export function node(
	opType: string,
	from: readonly string[],
	to: readonly string[],
	attributes: Readonly<Record<string, Plain>> = {},
	{ name, domain, floats = [] }: { name?: string; domain?: string; floats?: readonly string[] } = {},
): onnxProto.onnx.INodeProto {
	const attribute = Object.entries(attributes).map(([key, value]): onnxProto.onnx.IAttributeProto => {
		if (typeof value === 'string') return { name: key, type: 3, s: new TextEncoder().encode(value) };
		if (typeof value === 'number')
			return floats.includes(key) || !Number.isInteger(value) ? { name: key, type: 1, f: value } : { name: key, type: 2, i: value };
		if (Array.isArray(value))
			return value.every(Number.isInteger) ? { name: key, type: 7, ints: [...value] } : { name: key, type: 6, floats: [...value] };
		return { name: key, type: 4, t: value as onnxProto.onnx.ITensorProto };
	});
	return {
		opType,
		input: [...from],
		output: [...to],
		attribute,
		...(name === undefined ? {} : { name }),
		...(domain === undefined ? {} : { domain }),
	};
}

/** An initialiser with raw data. */
export function initializer(name: string, t: Tensor): onnxProto.onnx.ITensorProto {
	return {
		name,
		dims: [...t.shape],
		dataType: onnxElementType[t.dtype],
		rawData: new Uint8Array(t.data.buffer, t.data.byteOffset, t.data.byteLength),
	};
}

/** Every output of a model, computed by ONNX Runtime. */
export async function runOrt(bytes: Uint8Array, feeds: Readonly<Record<string, Tensor>>): Promise<Map<string, Tensor>> {
	const session = await InferenceSession.create(bytes, { logSeverityLevel: 3 });
	try {
		const given = Object.entries(feeds).map(([name, t]) => [
			name,
			new OrtTensor(t.dtype as 'float32', t.data as Float32Array, [...t.shape]),
		]);
		const results = await session.run(Object.fromEntries(given));
		return new Map(
			Object.entries(results).map(([name, { type, dims, data }]) => {
				const dtype = type as Tensor['dtype'];
				const copy = makeArray(dtype, data.length);
				(copy as Float32Array).set(data as Float32Array);
				return [name, { dtype, shape: dims, data: copy }];
			}),
		);
	} finally {
		await session.release();
	}
}
