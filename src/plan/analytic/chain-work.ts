/** @file The work of a chain's layers, from tracing it at one sample. No weights are made. */
import { sizeOf } from '../../core/tensor.ts';
import { differentiate } from '../../graph/differentiate.ts';
import { isFloat } from '../../graph/ops/shared.ts';
import { simplify } from '../../graph/passes/index.ts';
import type { ValueName } from '../../graph/types.ts';
import { type Chain, type ChainTrace, liveAt, type StageGraph, stageGraph, traceChain } from '../../nn/chain.ts';
import { freezeLayers } from '../../nn/freeze.ts';
import { skipsOf } from '../profile/skips.ts';
import { attentionRegions } from './attention.ts';
import { type CountOptions, countGraph } from './count.ts';
import type { BackboneWork, FrozenLayerWork, FrozenWork, JobWork, LayerWork } from './work.ts';

/** A training job as chains. */
export interface JobChains {
	readonly name: string;
	readonly backbones: readonly {
		readonly name: string;
		/** Gradients pass through layers that are not trained (`freezeLayers`). */
		readonly chain: Chain;
		/** Chain outputs that are losses; the others are what a later loss is made from. */
		readonly losses?: readonly string[];
	}[];
	readonly frozen: readonly { readonly name: string; readonly after?: readonly string[]; readonly chain: Chain }[];
}

/** The work of every layer of a job. */
export function jobWork({ name, backbones, frozen }: JobChains): JobWork {
	return {
		name,
		backbones: backbones.map((b) => backboneWork(b.name, b.chain)),
		frozen: frozen.map((f) => frozenWork(f.name, f.chain, f.after)),
	};
}

/** The work of a chain that is trained. */
export function backboneWork(name: string, chain: Chain): BackboneWork {
	const trace = traceChain(chain, 1);
	const flowing = flowingDefinitions(trace);
	const layers = chain.layers.map((layer, i): LayerWork => {
		const stage = simplified(trace, i);
		const options = countOptions(stage, flowing);
		return {
			name: layer.name,
			...countGraph(stage.graph, options),
			cutElements: liveElements(trace, i + 1),
			savedElements: savedElements(stage, options, flowing),
			parameters: parametersOf(stage, () => true),
			trainedParameters: parametersOf(stage, (n) => options.trained.has(n)),
		};
	});
	const skips = skipsOf(trace).map(({ from, to, id }) => ({ from, to, elements: sizeOf(trace.definitions.get(id)!.shape) }));
	return { name, layers, skips };
}

/** The work of a chain that is only run. */
export function frozenWork(name: string, chain: Chain, after: readonly string[] = []): FrozenWork {
	const trace = traceChain(freezeLayers(chain), 1);
	const layers = chain.layers.map((layer, i): FrozenLayerWork => {
		const stage = simplified(trace, i);
		const { forward } = countGraph(stage.graph, countOptions(stage, new Set()));
		return { name: layer.name, forward, outputElements: liveElements(trace, i + 1), parameters: parametersOf(stage, () => true) };
	});
	return { name, after, layers };
}

function simplified(trace: ChainTrace, layer: number): StageGraph {
	const stage = stageGraph(trace, layer, layer + 1);
	return { ...stage, graph: simplify(stage.graph) };
}

function parametersOf(stage: StageGraph, wanted: (name: string) => boolean): number {
	return stage.parameters.reduce((sum, p) => sum + (wanted(p.name) ? sizeOf(p.shape) : 0), 0);
}

function liveElements(trace: ChainTrace, cut: number): number {
	return liveAt(trace, cut).reduce((sum, id) => sum + sizeOf(trace.definitions.get(id)!.shape), 0);
}

/** Definitions that a gradient flows to: those that depend on a parameter in training. */
function flowingDefinitions(trace: ChainTrace): Set<string> {
	const flowing = new Set<string>();
	trace.layers.forEach((layer) => {
		const own = layer.parameters.some((p) => trace.parameters.get(p)!.trained);
		if (!own && !layer.reads.some((id) => flowing.has(id))) return;
		for (const id of layer.writes) if (isFloat(trace.definitions.get(id)!.dtype)) flowing.add(id);
	});
	return flowing;
}

function countOptions(stage: StageGraph, flowing: ReadonlySet<string>): CountOptions {
	return {
		parameters: new Set(stage.parameters.map((p) => p.name)),
		trained: new Set(stage.parameters.flatMap((p) => (p.trained ? [p.name] : []))),
		gradients: new Set(stage.receives.flatMap(([id, name]) => (flowing.has(id) ? [name] : []))),
	};
}

/** What our differentiation saves of one sample, but for what an attention kernel keeps to itself. */
function savedElements(stage: StageGraph, { parameters, trained, gradients }: CountOptions, flowing: ReadonlySet<string>): number {
	const outputs = [...new Set(stage.sends.flatMap(([id, name]) => (flowing.has(id) ? [name] : [])))];
	if (outputs.length === 0 || trained.size + gradients.size === 0) return 0;
	const d = differentiate(stage.graph, {
		outputs,
		inputs: [...gradients] as ValueName[],
		weights: [...trained] as ValueName[],
		resident: [...parameters].filter((p) => !trained.has(p)) as ValueName[],
	});
	const { forward } = d;
	const inner = new Set(attentionRegions(forward, dependsOnSample(forward, parameters)).flatMap((r) => r.inner));
	return d.saved.reduce((sum, name) => sum + (inner.has(name) ? 0 : sizeOf(forward.values.get(name)!.shape)), 0);
}

function dependsOnSample(graph: StageGraph['graph'], parameters: ReadonlySet<string>): Set<ValueName> {
	const found = new Set(graph.inputs.filter((n) => !parameters.has(n)));
	for (const node of graph.nodes) if (node.inputs.some((i) => i !== '' && found.has(i))) for (const o of node.outputs) found.add(o);
	return found;
}
