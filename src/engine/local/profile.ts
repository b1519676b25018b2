/** @file Measures a profile on this machine: every layer of a job at every batch size. */
import { DiffusionPipeError } from '../../core/errors.ts';
import { byteSize, bytesPerElement, sizeOf } from '../../core/tensor.ts';
import { differentiate } from '../../graph/differentiate.ts';
import { isFloat } from '../../graph/ops/shared.ts';
import { simplify } from '../../graph/passes/index.ts';
import type { Recompute } from '../../graph/saved.ts';
import { type Graph, type ValueName, valueNamed } from '../../graph/types.ts';
import { type ChainTrace, liveAt, stageGraph, traceChain } from '../../nn/chain.ts';
import type { JobChains } from '../../plan/analytic/chain-work.ts';
import { skipsOf } from '../../plan/profile/skips.ts';
import type { Backbone, FrozenComponent, Profile, TrainedLayer } from '../../plan/profile/types.ts';
import { trainedDefinitions, trainingStage } from '../../program/stage.ts';
import { measureGraphs } from './measure.ts';
import { measureUpdate } from './measure-update.ts';

export interface MeasuredProfileOptions {
	/** Ascending. Default 1, 2, 4, 8. */
	readonly batchSizes?: readonly number[];
	/** Threads inside one operator, as a device of the run to be planned has. Default 1. */
	readonly threads?: number;
	/** Devices that compute side by side in the run, so that they are measured side by side. Default 1. */
	readonly devices?: number;
	/** Runs of each graph after one to warm up; the median counts. Default 5. */
	readonly repeats?: number;
	/** What the backward computes again. Default `views`. */
	readonly recompute?: Recompute;
	/** Whether the optimiser keeps a moving average of the weights. Default false. */
	readonly average?: boolean;
	/** Probability of the extra forward sweep of every backbone. Default 0. */
	readonly selfConditioning?: number;
	/** Hears what is measured, and how many graphs of it are done: `unet at 4 samples`. */
	readonly onProgress?: (what: string, done: number, total: number) => void;
}

/**
 * The profile of `job` on one device of this machine. The backward for weights is what the whole backward takes beyond the one for inputs, since a stage
 * runs both as one graph. Throws an engine error when a graph cannot run.
 */
export async function measureProfile(job: JobChains, options: MeasuredProfileOptions = {}): Promise<Profile> {
	const { batchSizes = [1, 2, 4, 8], threads = 1, repeats = 5, average = false } = options;
	if (batchSizes.length === 0 || batchSizes.some((n, i) => !Number.isSafeInteger(n) || n < 1 || n <= (batchSizes[i - 1] ?? 0))) {
		throw new DiffusionPipeError('input', 'are no batch sizes', {
			place: 'batch sizes',
			expected: 'whole numbers from 1, each larger than the one before',
			found: batchSizes.join(', '),
		});
	}
	const updateMs = await measureUpdate({ average, repeats, threads });
	const backbones: Backbone[] = [];
	for (const backbone of job.backbones) backbones.push(await measureBackbone(backbone, batchSizes, updateMs, options));
	const frozen: FrozenComponent[] = [];
	for (const component of job.frozen) frozen.push(await measureFrozen(component, batchSizes, options));
	return { version: 1, name: job.name, batchSizes, backbones, frozen };
}

const float = bytesPerElement('float32');

async function measureBackbone(
	{ name, chain, losses = [] }: JobChains['backbones'][number],
	batchSizes: readonly number[],
	updateMs: number,
	options: MeasuredProfileOptions,
): Promise<Backbone> {
	// The largest batch is traced, where what does not grow with it weighs least.
	const batch = batchSizes.at(-1)!;
	const trace = traceChain(chain, batch);
	const sizes = batchSizes.map((n) => trainedGraphs(trace, n, losses, options.recompute ?? 'views'));
	const ms: { forward: number; backward: number; inputs: number }[][] = [];
	for (const [k, layers] of sizes.entries()) {
		const graphs = layers.flatMap(({ forward, backward, backwardInput }) =>
			[forward, backward, backwardInput].filter((g) => g !== undefined),
		);
		const times = await measure(`${name} at ${plural(batchSizes[k]!)}`, graphs, options);
		ms.push(
			layers.map(({ forward, backward, backwardInput }) => {
				const [f, b, i] = [forward, backward, backwardInput].map((g) => (g ? times.get(g)! : 0)) as [number, number, number];
				return { forward: f, backward: Math.max(b, i), inputs: i };
			}),
		);
	}
	const moments = options.average ? 3 : 2;
	const layers = chain.layers.map((layer, l): TrainedLayer => {
		const { parameters, trained, savedBytes } = sizes.at(-1)![l]!;
		return {
			name: layer.name,
			forwardMs: ms.map((at) => round(at[l]!.forward)),
			backwardInputMs: ms.map((at) => round(at[l]!.inputs)),
			backwardWeightMs: ms.map((at) => round(at[l]!.backward - at[l]!.inputs)),
			cutBytes: liveBytes(trace, l + 1),
			activationBytes: Math.round(savedBytes / batch),
			paramBytes: float * parameters,
			gradBytes: float * trained,
			optimizerBytes: float * trained * moments,
			updateMs: round(trained * updateMs),
		};
	});
	const skips = skipsOf(trace).map(({ from, to, id }) => ({ from, to, bytes: byteSize(trace.definitions.get(id)!) / batch }));
	return { name, selfConditioning: options.selfConditioning ?? 0, layers, skips };
}

interface TrainedGraphs {
	readonly forward: Graph;
	readonly backward: Graph | undefined;
	/** The part of it for inputs; undefined when nothing before the layer wants a gradient. */
	readonly backwardInput: Graph | undefined;
	readonly savedBytes: number;
	/** Elements. */
	readonly parameters: number;
	readonly trained: number;
}

/** The graphs of every layer at `batch` samples. */
function trainedGraphs(trace: ChainTrace, batch: number, losses: readonly string[], recompute: Recompute): TrainedGraphs[] {
	const flowing = trainedDefinitions(trace);
	const lossIds = trace.outputs.filter((_, i) => losses.includes(trace.chain.outputs[i]!));
	return trace.chain.layers.map((_, l) => {
		const gradsBack = new Set(liveAt(trace, l + 1).filter((id) => flowing.has(id) && !lossIds.includes(id)));
		const { stage, forward, backward, saved, inputGrads } = trainingStage(trace, l, l + 1, batch, gradsBack, lossIds, recompute);
		const elements = (wanted: (trained: boolean) => boolean) =>
			stage.parameters.reduce((sum, p) => sum + (wanted(p.trained) ? sizeOf(p.shape) : 0), 0);
		const madeHere = (id: string) => trace.definitions.get(id)!.layer === l;
		const partial =
			backward &&
			inputGrads.length > 0 &&
			differentiate(stage.graph, {
				outputs: stage.sends.flatMap(([id, name]) => (gradsBack.has(id) ? [name] : [])),
				losses: stage.sends.flatMap(([id, name]) => (lossIds.includes(id) && madeHere(id) ? [name] : [])),
				inputs: stage.receives.flatMap(([id, name]) => (flowing.has(id) && isFloat(trace.definitions.get(id)!.dtype) ? [name] : [])),
				weights: [],
				resident: stage.parameters.map((p) => p.name as ValueName),
				recompute,
			}).backward;
		return {
			forward,
			backward,
			backwardInput: partial || undefined,
			savedBytes: saved.reduce((sum, name) => sum + byteSize(valueNamed(forward, name)), 0),
			parameters: elements(() => true),
			trained: elements((trained) => trained),
		};
	});
}

async function measureFrozen(
	{ name, chain, after = [] }: JobChains['frozen'][number],
	batchSizes: readonly number[],
	options: MeasuredProfileOptions,
): Promise<FrozenComponent> {
	const trace = traceChain(chain, batchSizes.at(-1)!);
	const ms: number[][] = [];
	for (const batch of batchSizes) {
		const graphs = chain.layers.map((_, l) => simplify(stageGraph(trace, l, l + 1, batch).graph));
		const times = await measure(`${name} at ${plural(batch)}`, graphs, options);
		ms.push(graphs.map((graph) => times.get(graph)!));
	}
	const layers = chain.layers.map((layer, l) => ({
		name: layer.name,
		forwardMs: ms.map((at) => round(at[l]!)),
		outputBytes: liveBytes(trace, l + 1),
		paramBytes: float * trace.layers[l]!.parameters.reduce((sum, p) => sum + sizeOf(trace.parameters.get(p)!.shape), 0),
	}));
	return { name, after, layers };
}

/** Bytes of the live set at a cut, per sample. */
function liveBytes(trace: ChainTrace, cut: number): number {
	return liveAt(trace, cut).reduce((sum, id) => sum + byteSize(trace.definitions.get(id)!), 0) / trace.batch;
}

async function measure(what: string, graphs: readonly Graph[], options: MeasuredProfileOptions): Promise<Map<Graph, number>> {
	const { threads = 1, repeats = 5, devices = 1, onProgress } = options;
	const times = await measureGraphs(graphs, { threads, repeats, devices, onMeasured: (done, total) => onProgress?.(what, done, total) });
	return new Map(graphs.map((graph, i) => [graph, times[i]!]));
}

function plural(samples: number): string {
	return samples === 1 ? '1 sample' : `${samples} samples`;
}

/** Clocks tell no more than microseconds. */
function round(ms: number): number {
	return Math.round(ms * 1e3) / 1e3;
}
