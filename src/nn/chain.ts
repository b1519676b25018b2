/** @file A model as a chain of layers between named live values; the live set at any cut is found by liveness. */
import { DiffusionPipeError } from '../core/errors.ts';
import type { DType, Shape, TypeShape } from '../core/tensor.ts';
import { createBuilder } from '../graph/builder.ts';
import { checkGraph } from '../graph/check.ts';
import { extract } from '../graph/extract.ts';
import type { Graph, Value, ValueName } from '../graph/types.ts';
import { createContext, type LayerContext, type Parameter } from './context.ts';

/** Named values passed along a chain. Writing a name again shadows the older value for the layers after. */
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
	/** Ids of the chain's outputs. */
	readonly outputs: readonly string[];
	readonly parameters: ReadonlyMap<string, Parameter>;
}

/** Walks the chain once at `batch` samples. Throws a graph error when a layer reads a name nobody wrote. */
export function traceChain(chain: Chain, batch: number): ChainTrace {
	const g = createBuilder(chain.name);
	const parameters = new Map<string, Parameter>();
	const used = new Set<string>();
	const base = createContext(g, parameters);
	const definitions = new Map<string, Definition>();
	const current = new Map<string, { id: string; value: Value }>();
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
		const ctx = noting(base, used);
		ctx.at(layer.path ?? layer.name, (inner) =>
			layer.build(inner, {
				get(name) {
					const found = current.get(name) ?? noLive(chain, layer.name, name, current.keys());
					if (definitions.get(found.id)!.layer !== index) reads.add(found.id);
					return found.value;
				},
				set(name, value) {
					const id = `${name}@${index}`;
					definitions.set(id, { id, name, layer: index, dtype: value.dtype, shape: value.shape });
					current.set(name, { id, value });
					if (!writes.includes(id)) writes.push(id);
				},
			}),
		);
		return { reads: [...reads], writes, parameters: [...used] };
	});
	const outputs = chain.outputs.map((name) => (current.get(name) ?? noLive(chain, 'outputs', name, current.keys())).id);
	return { chain, batch, definitions, layers, outputs, parameters };
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

/** Builds the graph of layers [from, to) at the trace's batch size, or at `batch`. */
export function stageGraph(trace: ChainTrace, from: number, to: number, batch = trace.batch): StageGraph {
	const { chain } = trace;
	const g = createBuilder(`${chain.name}[${from},${to})`);
	const parameters = new Map<string, Parameter>();
	const ctx = createContext(g, parameters);
	const current = new Map<string, { id: string; value: Value }>();
	const feeds: [string, ValueName][] = [];
	const receives: [string, ValueName][] = [];
	/** Id a name stands for before layer `from`. */
	const before = (name: string): string => {
		for (let k = from - 1; k >= 0; k--) {
			const id = `${name}@${k}`;
			if (trace.definitions.has(id)) return id;
		}
		return `${name}@in`;
	};
	for (let index = from; index < to; index++) {
		const layer = chain.layers[index]!;
		ctx.at(layer.path ?? layer.name, (inner) =>
			layer.build(inner, {
				get(name) {
					const known = current.get(name);
					if (known) return known.value;
					const id = before(name);
					const def = trace.definitions.get(id) ?? noLive(chain, layer.name, name, current.keys());
					const value = g.input(`live.${id}`, def.dtype, [batch, ...def.shape.slice(1)]);
					(def.layer < 0 ? feeds : receives).push([def.layer < 0 ? name : id, value.name]);
					current.set(name, { id, value });
					return value;
				},
				set(name, value) {
					current.set(name, { id: `${name}@${index}`, value });
				},
			}),
		);
	}
	const sends: [string, ValueName][] = [];
	const passes: string[] = [];
	const received = new Map(receives);
	const made = new Map([...current.values()].map(({ id, value }) => [id, value]));
	for (const id of liveAt(trace, to)) {
		if (to === chain.layers.length && !trace.outputs.includes(id)) continue;
		const value = made.get(id);
		if (value && !received.has(id)) sends.push([id, value.name]);
		else if (received.has(id)) sends.push([id, g.identity(value!).name]);
		else passes.push(id);
	}
	const whole = g.finish(sends.map(([, name]) => ({ name }) as Value));
	const graph = extract(whole, whole.name, whole.inputs, whole.outputs, { keepInputs: true });
	return { graph: checkGraph(graph, 'stage building'), feeds, receives, sends, passes, parameters: [...parameters.values()] };
}
