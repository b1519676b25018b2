/** @file Graphs made elsewhere (read from ONNX) as chains: cut into layers by themselves, their large constants turned into parameters. */
import { DiffusionPipeError, nearestName } from '../core/errors.ts';
import { describe, sameShape, type Tensor, type TypeShape } from '../core/tensor.ts';
import type { GraphBuilder } from '../graph/builder.ts';
import { deadCode, extract } from '../graph/extract.ts';
import { isOpKind, ops } from '../graph/ops/index.ts';
import { type Graph, type Value, type ValueName, valueNamed } from '../graph/types.ts';
import type { Chain, ChainInput, Layer, Live } from './chain.ts';
import type { LayerContext } from './context.ts';
import { cutGraph, type Section } from './import-cuts.ts';

export interface ImportOptions {
	/** Samples of the graph. Default: the first dimension of its first input; for a function 1. */
	readonly batch?: number;
	/** Most values that may cross a cut, chain inputs not counted. Default 1; skip connections take one each. */
	readonly maxCrossing?: number;
	/** Graph inputs that are weights, for graphs that hold them not as constants. */
	readonly weightInputs?: readonly string[];
}

/** A chain and the weights it was found with. */
export interface ImportedChain {
	readonly chain: Chain;
	/** The batch size of the graph it was made from; the only one it can be built at when that was not given as a function. */
	readonly batch: number;
	/** Values of its parameters, under the names of the graph's constants; those given as `weightInputs` are not among them. */
	readonly weights: ReadonlyMap<string, Tensor<'float32'>>;
}

/**
 * A chain that computes what `source` does: a graph, or a function that gives the graph at any batch size, such as
 * `(batch) => readOnnx(bytes, { dims: { batch } })`. Every input and output must have the batch as its first axis. Live values keep the graph's names.
 *
 * Constants of type float32 with more than one element become parameters, so that they are counted, placed and shared like those of any model;
 * their names are kept, but for one that a layer's own values could be given (`MatMul_3`), which gets `.value` added.
 * @throws DiffusionPipeError of kind 'input' when an input or output does not have the batch as its first axis; building a layer throws one of kind
 * 'graph' at a batch size that `source` does not have
 */
export function chainFromGraph(source: Graph | ((batch: number) => Graph), options: ImportOptions = {}): ImportedChain {
	const { maxCrossing = 1 } = options;
	const batch = options.batch ?? (typeof source === 'function' ? 1 : firstDimension(source, options.weightInputs ?? []));
	const graph = deadCode(typeof source === 'function' ? source(batch) : source);
	const place = `graph ${graph.name}`;
	const weightInputs = checkWeightInputs(graph, options.weightInputs ?? [], place);
	// What is the batch, and what only happens to be as large, shows at another batch size.
	const other = typeof source === 'function' ? source(batch + 1) : undefined;
	const perSample = (name: ValueName): boolean => {
		const value = valueNamed(graph, name);
		return value.shape[0] === batch && (!other || isAtBatch(other.values.get(name), value, batch + 1));
	};
	const inputs: Record<string, ChainInput> = {};
	for (const name of graph.inputs) {
		if (weightInputs.has(name)) continue;
		const { dtype, shape } = valueNamed(graph, name);
		if (!perSample(name)) throw notPerSample('input', name, { dtype, shape }, batch, place);
		inputs[name] = { dtype, shape: shape.slice(1) };
	}
	for (const name of graph.outputs) {
		if (!perSample(name) || graph.constants.has(name)) throw notPerSample('output', name, valueNamed(graph, name), batch, place);
	}
	const parameterNames = new Map<ValueName, string>();
	const weights = new Map<string, Tensor<'float32'>>();
	for (const [name, t] of graph.constants) {
		const again = other?.constants.get(name);
		if (!isWeight(graph, name, t) || (other && !(again && sameShape(again.shape, t.shape)))) continue;
		parameterNames.set(name, parameterName(name));
		weights.set(parameterName(name), t as Tensor<'float32'>);
	}
	for (const name of weightInputs) parameterNames.set(name, parameterName(name));

	/** With the parameters as inputs: several batch sizes then do not keep several copies of the weights. */
	const model = (g: Graph): Graph => ({
		...g,
		inputs: [...new Set([...g.inputs, ...parameterNames.keys()])],
		constants: new Map([...g.constants].filter(([name]) => !parameterNames.has(name))),
	});
	const graphs = new Map([[batch, model(graph)]]);
	const graphAt = (samples: number): Graph => {
		let found = graphs.get(samples);
		if (!found) {
			if (typeof source !== 'function') {
				throw new DiffusionPipeError('graph', 'the chain was made for another batch size', {
					place,
					expected: `${batch} samples`,
					found: `${samples}`,
					hint: 'give a function of the batch size, as (batch) => readOnnx(bytes, { dims: { batch } })',
				});
			}
			found = model(deadCode(source(samples)));
			graphs.set(samples, found);
		}
		return found;
	};
	const sections = cutGraph(graphAt(batch), { weightInputs: new Set(parameterNames.keys()), perSample, maxCrossing });
	const last = sections.at(-1)!;
	const written = new Set(sections.flatMap((s) => s.writes));
	sections[sections.length - 1] = { ...last, writes: [...last.writes, ...new Set(graph.outputs.filter((name) => !written.has(name)))] };
	const names = layerNames(sections);
	const layers = sections.map((section, i) => layerOf(section, names[i]!, { batch, graphAt, parameterNames }));
	return { chain: { name: graph.name || 'imported', inputs, layers, outputs: graph.outputs }, batch, weights };
}

function firstDimension(graph: Graph, weightInputs: readonly string[]): number {
	const [first] = graph.inputs.filter((name) => !weightInputs.includes(name));
	const batch = first === undefined ? undefined : valueNamed(graph, first).shape[0];
	if (batch !== undefined) return batch;
	throw new DiffusionPipeError('input', 'the batch size cannot be told', {
		place: `graph ${graph.name}`,
		expected: 'a first input [batch, ...], or the option batch',
		found: first === undefined ? 'no inputs' : `${first} is ${describe(valueNamed(graph, first))}`,
	});
}

function checkWeightInputs(graph: Graph, names: readonly string[], place: string): ReadonlySet<ValueName> {
	for (const name of names) {
		const isInput = graph.inputs.includes(name as ValueName);
		if (isInput && valueNamed(graph, name as ValueName).dtype === 'float32') continue;
		const near = isInput ? undefined : nearestName(name, graph.inputs);
		throw new DiffusionPipeError('input', `weight input ${name} cannot be used`, {
			place,
			expected: 'the name of a float32 graph input',
			found: isInput ? describe(valueNamed(graph, name as ValueName)) : `inputs ${graph.inputs.join(', ')}`,
			...(near === undefined ? {} : { hint: `did you mean ${near}?` }),
		});
	}
	return new Set(names as readonly ValueName[]);
}

/** True when `found` is `value` with `batch` samples. */
function isAtBatch(found: Value | undefined, value: TypeShape, batch: number): boolean {
	return found !== undefined && found.dtype === value.dtype && sameShape(found.shape, [batch, ...value.shape.slice(1)]);
}

function notPerSample(kind: 'input' | 'output', name: string, found: TypeShape, batch: number, place: string): DiffusionPipeError {
	return new DiffusionPipeError('input', `${kind} ${name} is not one row per sample`, {
		place,
		expected: `computed from the inputs, [${batch}, ...] for ${batch} samples`,
		found: describe(found),
		hint:
			kind === 'input'
				? 'export the model with a batch axis, or name it in weightInputs when it is a weight'
				: 'export the model without it',
	});
}

/** True for constants worth being parameters: not scalars, nor scales that shapes depend on. */
function isWeight(graph: Graph, name: ValueName, t: Tensor): boolean {
	if (t.dtype !== 'float32' || t.data.length <= 1) return false;
	return !graph.nodes.some((node) => node.op === 'Resize' && node.inputs.indexOf(name) > 0);
}

/** A builder names its own values `scope/MatMul_3` and `scope/const_4`, in graphs of our own also constants. */
function parameterName(name: string): string {
	const [, own] = /(?:^|\/)([A-Za-z]+)_\d+$/.exec(name) ?? [];
	return own !== undefined && (own === 'const' || isOpKind(own)) ? `${name}.value` : name;
}

/** The path that the heavy nodes of a section share, made unique with a number. */
function layerNames(sections: readonly Section[]): string[] {
	const used = new Map<string, number>();
	return sections.map(({ nodes }, i) => {
		const heavy = nodes.filter((node) => ops[node.op].cost === 'heavy' && node.scope !== '');
		const name = heavy.map((node) => node.scope).reduce(sharedPath, heavy[0]?.scope ?? '') || `layer_${i}`;
		const count = (used.get(name) ?? 0) + 1;
		used.set(name, count);
		return count === 1 ? name : `${name}#${count}`;
	});
}

function sharedPath(a: string, b: string): string {
	const [left, right] = [a.split('.'), b.split('.')];
	const differs = left.findIndex((part, k) => part !== right[k]);
	return differs === -1 ? a : left.slice(0, differs).join('.');
}

interface Source {
	readonly batch: number;
	readonly graphAt: (batch: number) => Graph;
	readonly parameterNames: ReadonlyMap<ValueName, string>;
}

function layerOf({ reads, writes }: Section, name: string, { batch, graphAt, parameterNames }: Source): Layer {
	const partAt = (samples: number) => {
		const graph = graphAt(samples);
		return extract(graph, name, [...reads, ...graph.inputs], writes);
	};
	const needed = partAt(batch).inputs.filter((input) => !parameterNames.has(input));
	return {
		name,
		path: '',
		build(ctx, live) {
			const given = new Map(needed.map((input) => [input, live.get(input)]));
			emitPart(ctx, live, partAt([...given.values()][0]?.shape[0] ?? batch), given, parameterNames);
		},
	};
}

/** Adds the nodes of `part` to the builder and writes its outputs to `live`. */
function emitPart(
	ctx: LayerContext,
	live: Live,
	part: Graph,
	given: ReadonlyMap<ValueName, Value>,
	parameterNames: ReadonlyMap<ValueName, string>,
): void {
	const { g } = ctx;
	const known = new Map(given);
	const find = (name: ValueName): Value => {
		const parameter = parameterNames.get(name);
		const value =
			known.get(name) ??
			(parameter === undefined
				? sharedConstant(g, part.constants.get(name)!)
				: ctx.buffer(parameter, valueNamed(part, name).shape, { kind: 'zeros' }));
		known.set(name, value);
		return value;
	};
	for (const { op, inputs, outputs, attributes, scope } of part.nodes) {
		const values = inputs.map((name) => (name === '' ? undefined : find(name)));
		const made = g.scope(scope, () => g.emit(op, values, attributes, outputs.length));
		outputs.forEach((name, i) => {
			known.set(name, made[i]!);
		});
	}
	for (const name of part.outputs) live.set(name, given.has(name) ? g.identity(find(name)) : find(name));
}

const constantsOf = new WeakMap<GraphBuilder, Map<Tensor, Value>>();

/** A constant of the imported graph, once per builder however many layers use it. */
function sharedConstant(g: GraphBuilder, t: Tensor): Value {
	const known = constantsOf.get(g) ?? new Map<Tensor, Value>();
	constantsOf.set(g, known);
	const value = known.get(t) ?? g.constant(t);
	known.set(t, value);
	return value;
}
