/** @file Chains as ONNX files: the whole or some of the layers, with their parameters as initialisers. */
import { DiffusionPipeError, nearestName } from '../core/errors.ts';
import { describe, sameShape, type Tensor, tensor, toNumbers } from '../core/tensor.ts';
import { checkGraph } from '../graph/check.ts';
import { type WriteOnnxOptions, writeOnnx } from '../graph/onnx/index.ts';
import { simplify } from '../graph/passes/index.ts';
import { type Graph, type ValueName, valueNamed } from '../graph/types.ts';
import { type Chain, stageGraph, traceChain } from './chain.ts';
import type { Parameter } from './context.ts';

export interface ExportOptions extends WriteOnnxOptions {
	/** Samples of one run: the first dimension of every input. */
	readonly batch: number;
	/** First layer to write, and the one after the last. Default: all. */
	readonly from?: number;
	readonly to?: number;
}

/**
 * The chain as an ONNX model (opset 21) of fixed shapes. Inputs are the chain inputs that its layers read, and for a part also what they read of
 * earlier layers, all under their live names; outputs are the chain's, or what later layers read (`name_1` where an input has the name). Parameters
 * keep their names, as initialisers; half-precision weights are written as float32.
 * @throws DiffusionPipeError of kind 'input' when a weight is missing or has another shape; 'usage' when `from` and `to` are not a range of layers
 */
export function chainToOnnx(chain: Chain, weights: ReadonlyMap<string, Tensor>, options: ExportOptions): Uint8Array {
	const { batch, from = 0, to = chain.layers.length, ...rest } = options;
	if (!Number.isInteger(from) || !Number.isInteger(to) || from < 0 || from >= to || to > chain.layers.length) {
		throw new DiffusionPipeError('usage', 'from and to are not a range of layers', {
			place: `chain ${chain.name}`,
			expected: `0 <= from < to <= ${chain.layers.length}`,
			found: `from ${from} to ${to}`,
		});
	}
	const trace = traceChain(chain, batch);
	const stage = stageGraph(trace, from, to);
	// Before the weights are filled in: folding them would lose their names.
	const graph = withWeights(simplify(stage.graph), stage.parameters, weights);
	const liveName = (id: string) => {
		const output = to === chain.layers.length ? trace.outputs.indexOf(id) : -1;
		return output === -1 ? trace.definitions.get(id)!.name : chain.outputs[output]!;
	};
	const names = new Map<ValueName, string>();
	for (const [name, input] of stage.feeds) names.set(input, name);
	for (const [id, input] of stage.receives) names.set(input, liveName(id));
	for (const [id, output] of stage.sends) names.set(output, liveName(id));
	return writeOnnx(checkGraph(renameValues(graph, names), 'naming for export'), rest);
}

/** Turns parameters from inputs into constants. */
function withWeights(graph: Graph, parameters: readonly Parameter[], weights: ReadonlyMap<string, Tensor>): Graph {
	const constants = new Map(graph.constants);
	for (const { name, shape } of parameters) {
		const found = weights.get(name);
		if (!found?.dtype.includes('float') || !sameShape(found.shape, shape)) {
			const near = found ? undefined : nearestName(name, weights.keys());
			throw new DiffusionPipeError('input', found ? 'the weight does not fit' : 'the weight is missing', {
				place: name,
				expected: describe({ dtype: 'float32', shape }),
				found: found ? describe(found) : near === undefined ? 'nothing' : `${near}, which is another name`,
			});
		}
		constants.set(name as ValueName, found.dtype === 'float32' ? found : tensor('float32', shape, toNumbers(found)));
	}
	const filled = new Set<string>(parameters.map((p) => p.name));
	return { ...graph, inputs: graph.inputs.filter((name) => !filled.has(name)), constants };
}

/** The graph with values renamed; a name that another value has already gets a number. */
function renameValues(graph: Graph, wanted: ReadonlyMap<ValueName, string>): Graph {
	const taken = new Set<string>([...graph.values.keys()].filter((name) => !wanted.has(name)));
	const renamed = new Map<ValueName, ValueName>();
	for (const [old, name] of wanted) {
		let free = name;
		for (let i = 1; taken.has(free); i++) free = `${name}_${i}`;
		taken.add(free);
		renamed.set(old, free as ValueName);
	}
	const map = <T extends ValueName | ''>(name: T): T => (renamed.get(name as ValueName) as T | undefined) ?? name;
	return {
		...graph,
		inputs: graph.inputs.map(map),
		outputs: graph.outputs.map(map),
		nodes: graph.nodes.map((node) => ({ ...node, inputs: node.inputs.map(map), outputs: node.outputs.map(map) })),
		values: new Map([...graph.values.keys()].map((name) => [map(name), { ...valueNamed(graph, name), name: map(name) }])),
		constants: new Map([...graph.constants].map(([name, t]) => [map(name), t])),
	};
}
