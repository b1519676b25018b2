/** @file ONNX's messages as plain data, decoded from protobuf (field numbers: onnx/onnx.proto3 of the ONNX project, IR version 10). */
import { DiffusionPipeError } from '../../core/errors.ts';
import {
	type InField,
	type Message,
	readBigInt,
	readBigInts,
	readBytes,
	readFields,
	readFloat,
	readFloats,
	readInt,
	readMessage,
	readString,
	wholeMessage,
} from './wire.ts';

/** A TensorProto. Exactly one of `raw` and the typed lists holds the elements. */
export interface TensorProto {
	readonly name: string;
	readonly dims: readonly number[];
	readonly dataType: number;
	/** Little-endian elements, a view of the file. */
	readonly raw: Uint8Array | undefined;
	/** Elements of float_data or double_data. */
	readonly floats: readonly number[];
	/** Elements of int32_data or int64_data. */
	readonly ints: readonly bigint[];
	/** True when the elements stand in another file. */
	readonly external: boolean;
}

/** An AttributeProto; `other` is a kind no operator of ours takes (graphs, types, sparse tensors, lists of tensors). */
export type AttributeProto =
	| { readonly kind: 'int'; readonly value: bigint }
	| { readonly kind: 'float'; readonly value: number }
	| { readonly kind: 'string'; readonly value: string }
	| { readonly kind: 'ints'; readonly value: readonly bigint[] }
	| { readonly kind: 'floats'; readonly value: readonly number[] }
	| { readonly kind: 'strings'; readonly value: readonly string[] }
	| { readonly kind: 'tensor'; readonly value: TensorProto }
	| { readonly kind: 'other'; readonly value: number };

/** A NodeProto. Omitted inputs and outputs are ''; those at the end are left out. */
export interface NodeProto {
	readonly opType: string;
	/** '' is ai.onnx. */
	readonly domain: string;
	readonly name: string;
	readonly inputs: readonly string[];
	readonly outputs: readonly string[];
	readonly attributes: ReadonlyMap<string, AttributeProto>;
}

/** A ValueInfoProto of tensor type; `elemType` 0 is any other type. A dimension is a number, a symbol, or '' when nothing is said. */
export interface ValueInfo {
	readonly name: string;
	readonly elemType: number;
	readonly dims: readonly (number | string)[] | undefined;
}

/** A GraphProto without its documentation. */
export interface GraphProto {
	readonly name: string;
	readonly nodes: readonly NodeProto[];
	readonly initializers: readonly TensorProto[];
	readonly inputs: readonly ValueInfo[];
	readonly outputs: readonly ValueInfo[];
	readonly hasSparseInitializers: boolean;
}

/** A ModelProto: the graph and the version of each operator set it uses. */
export interface ModelProto {
	readonly irVersion: number;
	readonly opsets: ReadonlyMap<string, number>;
	readonly graph: GraphProto;
}

/** Domain as we write it: ai.onnx and '' are the same. */
const domainOf = (name: string) => (name === 'ai.onnx' ? '' : name);

function withoutTrailing(names: string[]): string[] {
	while (names.at(-1) === '') names.pop();
	return names;
}

function decodeTensor(message: Message): TensorProto {
	let name = '';
	let dataType = 0;
	let raw: Uint8Array | undefined;
	let external = false;
	const dims: bigint[] = [];
	const floats: number[] = [];
	const ints: bigint[] = [];
	readFields(message, {
		1: (f) => readBigInts(f, dims),
		2: (f) => (dataType = readInt(f)),
		4: (f) => readFloats(f, floats),
		5: (f) => readBigInts(f, ints),
		7: (f) => readBigInts(f, ints),
		8: (f) => (name = readString(f)),
		9: (f) => (raw = readBytes(f)),
		10: (f) => readFloats(f, floats, 8),
		13: () => (external = true),
		14: (f) => (external ||= readInt(f) === 1),
	});
	return { name, dims: dims.map(Number), dataType, raw, floats, ints, external };
}

function decodeAttribute(message: Message): readonly [string, AttributeProto] {
	let name = '';
	let type = 0;
	let float = 0;
	let int = 0n;
	let string = '';
	let tensor: TensorProto | undefined;
	const floats: number[] = [];
	const ints: bigint[] = [];
	const strings: string[] = [];
	readFields(message, {
		1: (f) => (name = readString(f)),
		2: (f) => (float = readFloat(f)),
		3: (f) => (int = readBigInt(f)),
		4: (f) => (string = readString(f)),
		5: (f) => (tensor = decodeTensor(readMessage(f))),
		7: (f) => readFloats(f, floats),
		8: (f) => readBigInts(f, ints),
		9: (f) => strings.push(readString(f)),
		20: (f) => (type = readInt(f)),
	});
	switch (type) {
		case 1:
			return [name, { kind: 'float', value: float }];
		case 2:
			return [name, { kind: 'int', value: int }];
		case 3:
			return [name, { kind: 'string', value: string }];
		case 4:
			return [name, tensor ? { kind: 'tensor', value: tensor } : { kind: 'other', value: type }];
		case 6:
			return [name, { kind: 'floats', value: floats }];
		case 7:
			return [name, { kind: 'ints', value: ints }];
		case 8:
			return [name, { kind: 'strings', value: strings }];
		default:
			return [name, { kind: 'other', value: type }];
	}
}

function decodeNode(message: Message): NodeProto {
	let opType = '';
	let domain = '';
	let name = '';
	const inputs: string[] = [];
	const outputs: string[] = [];
	const attributes = new Map<string, AttributeProto>();
	readFields(message, {
		1: (f) => inputs.push(readString(f)),
		2: (f) => outputs.push(readString(f)),
		3: (f) => (name = readString(f)),
		4: (f) => (opType = readString(f)),
		5: (f) => attributes.set(...decodeAttribute(readMessage(f))),
		7: (f) => (domain = domainOf(readString(f))),
	});
	return { opType, domain, name, inputs: withoutTrailing(inputs), outputs: withoutTrailing(outputs), attributes };
}

function decodeDimension(message: Message): number | string {
	let dim: number | string = '';
	readFields(message, {
		1: (f) => (dim = readInt(f)),
		2: (f) => (dim = readString(f)),
	});
	return dim;
}

function decodeValueInfo(message: Message): ValueInfo {
	let name = '';
	let elemType = 0;
	let dims: (number | string)[] | undefined;
	const shape = (m: Message) => {
		const found: (number | string)[] = [];
		readFields(m, { 1: (f) => found.push(decodeDimension(readMessage(f))) });
		dims = found;
	};
	const tensorType = (m: Message) => readFields(m, { 1: (f) => (elemType = readInt(f)), 2: (f) => shape(readMessage(f)) });
	readFields(message, {
		1: (f) => (name = readString(f)),
		2: (f) => readFields(readMessage(f), { 1: (t) => tensorType(readMessage(t)) }),
	});
	return { name, elemType, dims };
}

function decodeGraph(message: Message): GraphProto {
	let name = '';
	let hasSparseInitializers = false;
	const nodes: NodeProto[] = [];
	const initializers: TensorProto[] = [];
	const inputs: ValueInfo[] = [];
	const outputs: ValueInfo[] = [];
	readFields(message, {
		1: (f) => nodes.push(decodeNode(readMessage(f))),
		2: (f) => (name = readString(f)),
		5: (f) => initializers.push(decodeTensor(readMessage(f))),
		11: (f) => inputs.push(decodeValueInfo(readMessage(f))),
		12: (f) => outputs.push(decodeValueInfo(readMessage(f))),
		15: () => (hasSparseInitializers = true),
	});
	return { name, nodes, initializers, inputs, outputs, hasSparseInitializers };
}

/** The model in `bytes`; `place` names the file in errors. Throws an input error when the bytes are not a ModelProto. */
export function decodeModel(bytes: Uint8Array, place: string): ModelProto {
	let irVersion = 0;
	let graph: GraphProto | undefined;
	const opsets = new Map<string, number>();
	const opset = (field: InField) => {
		let domain = '';
		let version = 0;
		readFields(readMessage(field), { 1: (f) => (domain = domainOf(readString(f))), 2: (f) => (version = readInt(f)) });
		opsets.set(domain, version);
	};
	readFields(wholeMessage(bytes, place), {
		1: (f) => (irVersion = readInt(f)),
		7: (f) => (graph = decodeGraph(readMessage(f))),
		8: opset,
	});
	if (!graph || irVersion < 1 || opsets.size === 0) {
		throw new DiffusionPipeError('input', 'this is not an ONNX model', {
			place,
			expected: 'a ModelProto with ir_version, opset_import and graph',
			found: `ir_version ${irVersion || 'absent'}, ${opsets.size} operator sets, graph ${graph ? 'present' : 'absent'}`,
		});
	}
	return { irVersion, opsets, graph };
}
