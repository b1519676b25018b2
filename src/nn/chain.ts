/** @file A model as a chain of layers between named live values; the live set at any cut is found by liveness. */
import { DiffusionPipeError } from '../core/errors.ts';
import type { DType, Shape, TypeShape } from '../core/tensor.ts';
import { createBuilder } from '../graph/builder.ts';
import { checkGraph } from '../graph/check.ts';
import { extract } from '../graph/extract.ts';
import type { Graph, Value, ValueName } from '../graph/types.ts';
import { createContext, type LayerContext, type Parameter } from './context.ts';

/**
 * Named values passed along a chain. Writing a name again shadows the older value for the layers after. A value that a layer writes under two
 * names, or reads and writes under another, stays one value with one id: it crosses a cut once.
 */
export interface Live {
	get(name: string): Value;
	set(name: string, value: Value): void;
}

export interface Layer {
	/** Unique in its chain, e.g. `transformer_blocks.3`. */
	readonly name: string;
	/** Path of its parameters when that is not its name ('' for parameters at the model's root). */
	readonly path?: string;
	build(ctx: LayerContext, live: Live): void;
}

/** A chain input: per sample, so without the batch axis, which is always first. */
export interface ChainInput {
	readonly dtype: DType;
	readonly shape: Shape;
}

export interface Chain {
	readonly name: string;
	readonly inputs: Readonly<Record<string, ChainInput>>;
	readonly layers: readonly Layer[];
	/** Live names that are the chain's results. */
	readonly outputs: readonly string[];
}

/** One definition of a live name: by layer `layer` (-1: a chain input). */
export interface Definition extends TypeShape {
	readonly id: string;
	readonly name: string;
	readonly layer: number;
}

/** What tracing a chain at one batch size tells: types, parameters per layer, and who reads what. */
export interface ChainTrace {
	readonly chain: Chain;
	readonly batch: number;
	readonly definitions: ReadonlyMap<string, Definition>;
	/** Per layer: ids read, ids written, names of parameters used. */
	readonly layers: readonly {
		readonly reads: readonly string[];
		readonly writes: readonly string[];
		readonly parameters: readonly string[];
	}[];
	/** Per layer: the id that each live name stands for before it. */
	readonly names: readonly ReadonlyMap<string, string>[];
	/** Ids of the chain's outputs, in their order. */
	readonly outputs: readonly string[];
	readonly parameters: ReadonlyMap<string, Parameter>;
}

/** A live name's value, and the id of its definition. */
interface Bound {
	readonly id: string;
	readonly value: Value;
}

/**
 * What layer `index` sees of the live values: `find` resolves a name that the layer has not written, `bind` takes what it writes. Ids must not
 * depend on where a stage begins, so they follow from what this layer alone reads and writes.
 */
function liveOf(index: number, find: (name: string) => Bound, bind: (name: string, bound: Bound, isNew: boolean) => void): Live {
	const seen = new Map<ValueName, string>();
	const fresh = (name: string): string => {
		const ids = new Set(seen.values());
		let id = `${name}@${index}`;
		while (ids.has(id)) id += "'";
		return id;
	};
	return {
		get(name) {
			const { id, value } = find(name);
			seen.set(value.name, id);
			return value;
		},
		set(name, value) {
			const known = seen.get(value.name);
			const id = known ?? fresh(name);
			seen.set(value.name, id);
			bind(name, { id, value }, known === undefined);
		},
	};
}

/** Walks the chain once at `batch` samples. Throws a graph error when a layer reads a name nobody wrote. */
export function traceChain(chain: Chain, batch: number): ChainTrace {
	const g = createBuilder(chain.name);
	const parameters = new Map<string, Parameter>();
	const used = new Set<string>();
	const base = createContext(g, parameters);
	const definitions = new Map<string, Definition>();
	const current = new Map<string, Bound>();
	const names: ReadonlyMap<string, string>[] = [];
	for (const [name, input] of Object.entries(chain.inputs)) {
		const id = `${name}@in`;
		const value = g.input(id, input.dtype, [batch, ...input.shape]);
		definitions.set(id, { id, name, layer: -1, dtype: value.dtype, shape: value.shape });
		current.set(name, { id, value });
	}
	const layers = chain.layers.map((layer, index) => {
		const reads = new Set<string>();
		const writes: string[] = [];
		used.clear();
		names.push(new Map([...current].map(([name, { id }]) => [name, id])));
		const ctx = noting(base, used);
		const live = liveOf(
			index,
			(name) => {
				const found = current.get(name) ?? noLive(chain, layer.name, name, current.keys());
				if (definitions.get(found.id)!.layer !== index) reads.add(found.id);
				return found;
			},
			(name, bound, isNew) => {
				const { id, value } = bound;
				current.set(name, bound);
				if (!isNew) return;
				definitions.set(id, { id, name, layer: index, dtype: value.dtype, shape: value.shape });
				writes.push(id);
			},
		);
		ctx.at(layer.path ?? layer.name, (inner) => layer.build(inner, live));
		return { reads: [...reads], writes, parameters: [...used] };
	});
	const outputs = chain.outputs.map((name) => (current.get(name) ?? noLive(chain, 'outputs', name, current.keys())).id);
	outputs.forEach((id, i) => {
		if (definitions.get(id)!.layer >= 0 && outputs.indexOf(id) === i) return;
		throw new DiffusionPipeError(
			'graph',
			`output ${chain.outputs[i]} is ${definitions.get(id)!.layer < 0 ? 'an input' : 'another output'} unchanged`,
			{
				place: `chain ${chain.name}`,
				hint: 'write a copy: live.set(name, g.identity(value))',
			},
		);
	});
	return { chain, batch, definitions, layers, names, outputs, parameters };
}

/** The same context, noting each parameter asked for. */
function noting(ctx: LayerContext, used: Set<string>): LayerContext {
	const note = (name: string) => used.add(ctx.path === '' ? name : `${ctx.path}.${name}`);
	return {
		...ctx,
		param(name, shape, init) {
			note(name);
			return ctx.param(name, shape, init);
		},
		buffer(name, shape, init) {
			note(name);
			return ctx.buffer(name, shape, init);
		},
		at: (name, body) => ctx.at(name, (inner) => body(noting(inner, used))),
	};
}

function noLive(chain: Chain, layer: string, name: string, names: Iterable<string>): never {
	throw new DiffusionPipeError('graph', `live value ${name} was never written`, {
		place: `chain ${chain.name}, layer ${layer}`,
		expected: `one of ${[...names].join(', ')}`,
	});
}

/** Ids alive at the cut before layer `cut`: made before it (chain inputs apart) and read at or after it, or a chain output. */
export function liveAt(trace: ChainTrace, cut: number): string[] {
	const wanted = new Set<string>(trace.outputs);
	for (const layer of trace.layers.slice(cut)) for (const id of layer.reads) wanted.add(id);
	return [...wanted].filter((id) => {
		const { layer } = trace.definitions.get(id)!;
		return layer >= 0 && layer < cut;
	});
}

/** The graph of layers [from, to), and how its values connect to the rest of the chain. */
export interface StageGraph {
	readonly graph: Graph;
	/** Chain inputs read here, as [chain input name, graph input]. */
	readonly feeds: readonly (readonly [string, ValueName])[];
	/** Live ids read here that an earlier stage made, as [id, graph input]. */
	readonly receives: readonly (readonly [string, ValueName])[];
	/** Live ids made here (or read here and still needed) that later stages or the result need, as [id, graph output]. */
	readonly sends: readonly (readonly [string, ValueName])[];
	/** Live ids that only pass through: received and sent on untouched. */
	readonly passes: readonly string[];
	readonly parameters: readonly Parameter[];
}

/** Shape of a live value at `batch` samples, when the chain was traced at another number. */
function atBatch({ chain, batch: traced }: ChainTrace, { name, layer, shape }: Definition, batch: number): Shape {
	if (batch === traced) return shape;
	if (shape[0] === traced) return [batch, ...shape.slice(1)];
	throw new DiffusionPipeError('graph', `live value ${name} does not have the samples as its first axis`, {
		place: `chain ${chain.name}, layer ${chain.layers[layer]?.name}`,
		expected: `[${traced}, ...], to be read at another batch size`,
		found: `[${shape.join(', ')}]`,
	});
}

/** Builds the graph of layers [from, to) at the trace's batch size, or at `batch`. */
export function stageGraph(trace: ChainTrace, from: number, to: number, batch = trace.batch): StageGraph {
	const { chain } = trace;
	const g = createBuilder(`${chain.name}[${from},${to})`);
	const parameters = new Map<string, Parameter>();
	const ctx = createContext(g, parameters);
	const current = new Map<string, Bound>();
	const feeds: [string, ValueName][] = [];
	const receives: [string, ValueName][] = [];
	/** What the stage gets from outside, by id. */
	const given = new Map<string, Bound>();
	const outside = (layer: Layer, name: string): Bound => {
		const id = trace.names[from]!.get(name) ?? noLive(chain, layer.name, name, [...trace.names[from]!.keys(), ...current.keys()]);
		const known = given.get(id);
		if (known) return known;
		const def = trace.definitions.get(id)!;
		const value = g.input(`live.${id}`, def.dtype, atBatch(trace, def, batch));
		(def.layer < 0 ? feeds : receives).push([def.layer < 0 ? def.name : id, value.name]);
		const bound = { id, value };
		given.set(id, bound);
		return bound;
	};
	for (let index = from; index < to; index++) {
		const layer = chain.layers[index]!;
		const live = liveOf(
			index,
			(name) => current.get(name) ?? outside(layer, name),
			(name, bound) => current.set(name, bound),
		);
		ctx.at(layer.path ?? layer.name, (inner) => layer.build(inner, live));
	}
	const sends: [string, ValueName][] = [];
	const passes: string[] = [];
	const made = new Map([...current.values(), ...given.values()].map(({ id, value }) => [id, value]));
	const computed = new Set(g.nodes().flatMap((node) => node.outputs));
	for (const id of liveAt(trace, to)) {
		if (to === chain.layers.length && !trace.outputs.includes(id)) continue;
		const value = made.get(id);
		// What is received, or a parameter, is not this graph's to give away: a copy of it is.
		if (value) sends.push([id, computed.has(value.name) ? value.name : g.identity(value).name]);
		else passes.push(id);
	}
	const whole = g.finish(sends.map(([, name]) => ({ name }) as Value));
	const graph = extract(whole, whole.name, whole.inputs, whole.outputs, { keepInputs: true });
	return { graph: checkGraph(graph, 'stage building'), feeds, receives, sends, passes, parameters: [...parameters.values()] };
}
