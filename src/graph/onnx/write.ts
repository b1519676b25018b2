/** @file Writes a graph as an ONNX model (IR version 10, opset 21). */
import { DiffusionPipeError } from '../../core/errors.ts';
import type { TypeShape } from '../../core/tensor.ts';
import { onnxElementType } from '../builder/elementwise.ts';
import type { AttributeSpec, OpDef } from '../op.ts';
import { ops } from '../ops/index.ts';
import { type AttributeValue, type Graph, type Node, valueNamed as valueIn } from '../types.ts';
import { fillFields } from './fill.ts';
import { tensorFields } from './tensors.ts';
import { encodeMessage, floatField, intField, messageField, type OutField, sizeOfFields, stringField } from './wire.ts';

export interface WriteOnnxOptions {
	/** Version of the ai.onnx operator set; the graph's vocabulary is that of 21. */
	readonly opset?: 21;
	/** producer_name of the model; `diffusionpipe` if not given. */
	readonly producer?: string;
	/** metadata_props of the model. */
	readonly metadata?: Readonly<Record<string, string>>;
	/** Leaves out optional outputs that nobody reads (mean and inverse deviation of LayerNormalization); on unless false. */
	readonly dropUnusedOutputs?: boolean;
	/** Also writes the type of every intermediate value, for viewers; off unless true. */
	readonly valueInfo?: boolean;
}

/** Protobuf messages cannot be larger, and ONNX Runtime refuses them. */
const maxModelBytes = 2 ** 31 - 1;

/**
 * The graph as an ONNX model file. Constants that a node or output uses become initialisers, values keep their names, and a node is named
 * `<scope>/<operator>_<position>`. Throws a graph error when a node has an attribute its operator does not know, or when the file would pass 2 GiB.
 */
export function writeOnnx(graph: Graph, options: WriteOnnxOptions = {}): Uint8Array {
	const used = new Set<string>([...graph.outputs, ...graph.nodes.flatMap((node) => node.inputs)]);
	const nodes = graph.nodes.map((node, i) => messageField(1, nodeFields(node, i, options.dropUnusedOutputs === false ? undefined : used)));
	const initializers = [...graph.constants].filter(([name]) => used.has(name)).map(([name, t]) => messageField(5, tensorFields(t, name)));
	const info = (number: number, names: readonly string[]) =>
		names.map((name) => messageField(number, valueInfoFields(name, valueIn(graph, name as Graph['outputs'][number]))));
	const outputs = new Set<string>(graph.outputs);
	const intermediate = graph.nodes.flatMap((node) => node.outputs).filter((name) => used.has(name) && !outputs.has(name));
	const domains = [...new Set(graph.nodes.map((node) => ops[node.op].domain ?? ''))].filter((domain) => domain !== '').sort();
	const model: OutField[] = [
		intField(1, 10),
		stringField(2, options.producer ?? 'diffusionpipe'),
		messageField(7, [
			...nodes,
			stringField(2, graph.name),
			...initializers,
			...info(11, graph.inputs),
			...info(12, graph.outputs),
			...(options.valueInfo ? info(13, intermediate) : []),
		]),
		messageField(8, [stringField(1, ''), intField(2, options.opset ?? 21)]),
		...domains.map((domain) => messageField(8, [stringField(1, domain), intField(2, 1)])),
		...Object.entries(options.metadata ?? {}).map(([key, value]) => messageField(14, [stringField(1, key), stringField(2, value)])),
	];
	const size = sizeOfFields(model);
	if (size > maxModelBytes) {
		throw new DiffusionPipeError('graph', 'the model is too large for an ONNX file', {
			place: `graph ${graph.name}`,
			expected: `at most ${maxModelBytes} bytes`,
			found: `${size} bytes`,
			hint: 'make the weights graph inputs and keep them in safetensors files, or write the model in parts',
		});
	}
	return encodeMessage(model);
}

function valueInfoFields(name: string, { dtype, shape }: TypeShape): OutField[] {
	const dims = shape.map((d) => messageField(1, [intField(1, d)]));
	const tensorType = messageField(1, [intField(1, onnxElementType[dtype]), messageField(2, dims)]);
	return [stringField(1, name), messageField(2, [tensorType])];
}

function nodeFields(node: Node, index: number, used: ReadonlySet<string> | undefined): OutField[] {
	const def: OpDef = ops[node.op];
	const name = `${node.scope === '' ? '' : `${node.scope}/`}${node.op}_${index}`;
	const [required, most] = def.outputs;
	// Outputs of a variadic operator (Split) are told apart by their position and cannot be left out.
	const optional = (i: number) => used !== undefined && Number.isFinite(most) && i >= required;
	return [
		...withoutTrailing(node.inputs).map((input) => stringField(1, input)),
		...withoutTrailing(node.outputs.map((output, i) => (optional(i) && !used?.has(output) ? '' : output))).map((o) => stringField(2, o)),
		stringField(3, name),
		stringField(4, def.onnxName ?? node.op),
		...attributeFields(node, def, name),
		...(def.domain === undefined ? [] : [stringField(7, def.domain)]),
	];
}

function withoutTrailing(names: readonly string[]): readonly string[] {
	const last = names.findLastIndex((name) => name !== '');
	return names.slice(0, last + 1);
}

function attributeFields(node: Node, def: OpDef, place: string): OutField[] {
	if (node.op === 'ConstantOfShape' && Object.keys(node.attributes).length > 0) {
		const fill = fillFields(node.attributes);
		if (fill) return [messageField(5, fill)];
		throw new DiffusionPipeError('graph', 'the fill cannot be written', {
			place,
			expected: 'value: a number, dtype: the ONNX number of an element type we hold',
			found: JSON.stringify(node.attributes),
		});
	}
	return Object.entries(node.attributes).flatMap(([name, value]) => {
		const spec = Object.hasOwn(def.attributes, name) ? def.attributes[name] : undefined;
		if (spec?.kind === 'int' && spec.unwritten) return [];
		const fields = spec && encodeAttribute(spec.kind, value);
		if (fields) return messageField(5, [stringField(1, name), ...fields]);
		throw new DiffusionPipeError('graph', `attribute ${name} cannot be written`, {
			place,
			expected: spec ? `a value of kind ${spec.kind}` : Object.keys(def.attributes).join(', ') || 'no attributes',
			found: spec ? JSON.stringify(value) : name,
		});
	});
}

/** Content and type of an AttributeProto, or undefined when the value is not of this kind. */
function encodeAttribute(kind: AttributeSpec['kind'], value: AttributeValue): OutField[] | undefined {
	const numbers = Array.isArray(value) && value.every((v) => typeof v === 'number') ? (value as number[]) : undefined;
	switch (kind) {
		case 'float':
			return typeof value === 'number' ? [floatField(2, value), intField(20, 1)] : undefined;
		case 'int':
			return Number.isSafeInteger(value) ? [intField(3, value as number), intField(20, 2)] : undefined;
		case 'string':
			return typeof value === 'string' ? [stringField(4, value), intField(20, 3)] : undefined;
		case 'floats':
			return numbers && [...numbers.map((v) => floatField(7, v)), intField(20, 6)];
		case 'ints':
			return numbers?.every(Number.isSafeInteger) ? [...numbers.map((v) => intField(8, v)), intField(20, 7)] : undefined;
	}
}
