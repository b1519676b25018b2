/** @file Reads ONNX models into graphs: shapes bound, older forms brought to opset 21, arithmetic on shapes carried out. */
import { DiffusionPipeError } from '../../core/errors.ts';
import { isOpKind, ops } from '../ops/index.ts';
import type { Graph, Value, ValueName } from '../types.ts';
import { type Assembly, createAssembly } from './assemble.ts';
import { attributesFor, type Fail } from './attributes.ts';
import { boundShape } from './bind.ts';
import { constantOfShape } from './fill.ts';
import { decodeModel, type GraphProto, type NodeProto } from './schema.ts';
import { checkSupported, newestOpset, nodeName } from './supported.ts';
import { elementType, tensorFromProto } from './tensors.ts';
import { type UpgradeTools, upgrades } from './upgrade.ts';

export interface ReadOnnxOptions {
	/** Sizes of symbolic dimensions by name, e.g. `{ batch: 2 }`; a dimension without a name is `<input>[<axis>]`. */
	readonly dims?: Readonly<Record<string, number>>;
	/** What errors call the model, such as its file name. */
	readonly place?: string;
}

/**
 * The graph of an ONNX model file. Names of inputs, outputs and values are kept; the scope of a node is its name's path. Constant nodes
 * become constants; a node whose inputs are all constant and small is evaluated at once, as is Shape, so that shapes computed in the graph
 * are concrete. Constants nothing reads any more are dropped.
 *
 * Throws an input error that names the place when the file is malformed, a symbolic dimension is not bound, data stand in another file, or
 * an operator (all of them are listed), attribute, type or opset is not supported; a graph error when a node's inputs do not fit it.
 */
export function readOnnx(bytes: Uint8Array, options: ReadOnnxOptions = {}): Graph {
	const place = options.place ?? 'ONNX model';
	const model = decodeModel(bytes, place);
	checkSupported(model, place);
	const { graph } = model;
	const assembly = createAssembly(
		graph.name,
		graph.outputs.map((o) => o.name),
		namesOf(graph),
	);
	addInputs(graph, options.dims ?? {}, assembly, place);
	addNodes(graph, model.opsets.get('') ?? newestOpset, assembly, place);
	for (const { name } of graph.outputs) {
		if (!assembly.graph.values.has(name as ValueName)) {
			throw new DiffusionPipeError('input', `output ${name} is not computed by any node`, { place });
		}
	}
	return assembly.finish();
}

function namesOf({ nodes, inputs, outputs, initializers }: GraphProto): string[] {
	return [...nodes.flatMap((n) => [...n.inputs, ...n.outputs]), ...[...inputs, ...outputs, ...initializers].map((v) => v.name)];
}

function addInputs(graph: GraphProto, dims: Readonly<Record<string, number>>, assembly: Assembly, place: string): void {
	for (const t of graph.initializers) assembly.define(t.name, tensorFromProto(t, place), place);
	// Before IR version 4 every initialiser was listed among the inputs, too.
	const initialized = new Set(graph.initializers.map((t) => t.name));
	for (const info of graph.inputs) {
		if (initialized.has(info.name)) continue;
		const dtype = elementType(info.elemType, `${place}, input ${info.name}`);
		assembly.input(info.name, { dtype, shape: boundShape(info, dims, place) }, place);
	}
}

function addNodes(graph: GraphProto, opset: number, assembly: Assembly, place: string): void {
	const read = new Set<string>([...graph.outputs.map((o) => o.name), ...graph.nodes.flatMap((n) => n.inputs)]);
	for (const node of graph.nodes) {
		const at = `${place}, node ${nodeName(node)}`;
		const fail: Fail = (what, parts = {}) => {
			throw new DiffusionPipeError('input', what, { place: `${at} (${node.opType})`, ...parts });
		};
		const valueAt = (name: string): Value =>
			assembly.graph.values.get(name as ValueName) ??
			fail(`input ${name} is not defined before it`, { hint: 'nodes must be in topological order' });
		const tools: UpgradeTools = {
			opset,
			place: at,
			input: (i) => valueAt(node.inputs[i] || fail(`input ${i} is omitted`)),
			constant: (name) => assembly.graph.constants.get(name as ValueName),
			define: (name, t) => assembly.define(name, t, at),
			add: (hint, t) => assembly.add(hint, t, at),
			fresh: assembly.fresh,
			isRead: (name) => name !== undefined && name !== '' && read.has(name),
			fail,
		};
		guarded(at, () => {
			const upgrade = node.domain === '' && Object.hasOwn(upgrades, node.opType) ? upgrades[node.opType] : undefined;
			for (const step of upgrade ? upgrade(node, tools) : [node]) {
				for (const name of step.inputs) if (name !== '') valueAt(name);
				addNode(step, assembly, at, fail);
			}
		});
	}
}

function addNode(node: NodeProto, assembly: Assembly, place: string, fail: Fail): void {
	const op = node.opType;
	if (!isOpKind(op)) fail(`operator ${op} is not known`);
	assembly.node({
		op,
		inputs: node.inputs as readonly (ValueName | '')[],
		outputs: node.outputs,
		attributes: op === 'ConstantOfShape' ? constantOfShape(node.attributes, place, fail) : attributesFor(ops[op], node.attributes, fail),
		scope: scopeOf(node.name),
		place,
	});
}

/** Layer path of a node: the exporters of PyTorch name nodes `/encoder/layer.0/MatMul`, we name them `encoder.layer.0/MatMul_3`. */
function scopeOf(name: string): string {
	const path = name.slice(0, Math.max(0, name.lastIndexOf('/')));
	return path.startsWith('/') ? path.slice(1).replaceAll('/', '.') : path;
}

/** A damaged file can ask of an operator what its code never foresaw; that error must not reach the user raw. */
function guarded(place: string, body: () => void): void {
	try {
		body();
	} catch (cause) {
		if (cause instanceof DiffusionPipeError) throw cause;
		throw new DiffusionPipeError('input', 'the node cannot be understood', { place, found: String(cause), cause });
	}
}
