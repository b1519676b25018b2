/** @file One stage of a training pipeline: its forward and backward graphs, ready for slots. */
import { createBuilder } from '../graph/builder.ts';
import { checkGraph } from '../graph/check.ts';
import { differentiate, gradName } from '../graph/differentiate.ts';
import { isFloat } from '../graph/ops/shared.ts';
import { simplify } from '../graph/passes/index.ts';
import type { Recompute } from '../graph/saved.ts';
import { type SplitBackward, splitBackward } from '../graph/split-backward.ts';
import type { Graph, Node, Value, ValueName } from '../graph/types.ts';
import { type ChainTrace, type StageGraph, stageGraph } from '../nn/chain.ts';

/** A stage with its derivative. Ids are live ids of the chain. */
export interface TrainingStage {
	readonly stage: StageGraph;
	/** The stage's outputs, then the saved values that are not inputs. */
	readonly forward: Graph;
	/** Undefined when nothing in the stage is trained and nothing before it either. */
	readonly backward: Graph | undefined;
	/** Forward values the backward graph reads: graph inputs and inner values. */
	readonly saved: readonly ValueName[];
	/** Ids received here whose gradient this stage gives back, with the backward graph's output. */
	readonly inputGrads: readonly (readonly [string, ValueName])[];
	/** Ids sent on whose gradient comes back, with the backward graph's input. */
	readonly outputGrads: readonly (readonly [string, ValueName])[];
	/** Parameters that get a gradient: [name, accumulator input, output]. */
	readonly weightGrads: readonly (readonly [string, ValueName, ValueName])[];
}

/** Ids of definitions that depend on a parameter, so that a gradient can flow to them. */
export function trainedDefinitions(trace: ChainTrace): Set<string> {
	const trained = new Set<string>();
	trace.layers.forEach((layer) => {
		if (layer.parameters.some((p) => trace.parameters.get(p)!.trained) || layer.reads.some((r) => trained.has(r)))
			for (const w of layer.writes) trained.add(w);
	});
	return trained;
}

/**
 * Builds and differentiates layers [from, to). `gradsBack` are the ids sent on for which a later stage gives a gradient back;
 * `losses` the chain outputs that are losses.
 */
export function trainingStage(
	trace: ChainTrace,
	from: number,
	to: number,
	batch: number,
	gradsBack: ReadonlySet<string>,
	losses: readonly string[],
	recompute: Recompute,
): TrainingStage {
	const raw = stageGraph(trace, from, to, batch);
	const stage: StageGraph = { ...raw, graph: simplify(raw.graph) };
	const trained = trainedDefinitions(trace);
	const weights = stage.parameters.filter((p) => p.trained).map((p) => p.name as ValueName);
	const resident = stage.parameters.filter((p) => !p.trained).map((p) => p.name as ValueName);
	const outputs = stage.sends.filter(([id]) => gradsBack.has(id));
	// A later stage that only sends the loss on must not start its gradient a second time.
	const madeHere = (id: string) => trace.definitions.get(id)!.layer >= from;
	const lossOutputs = stage.sends.filter(([id]) => losses.includes(id) && madeHere(id)).map(([, name]) => name);
	const inputs = stage.receives.filter(([id]) => trained.has(id) && isFloat(trace.definitions.get(id)!.dtype));
	if (outputs.length + lossOutputs.length === 0 || weights.length + inputs.length === 0) {
		return {
			stage,
			forward: stage.graph,
			backward: undefined,
			saved: [],
			inputGrads: [],
			outputGrads: [],
			weightGrads: [],
		};
	}
	const d = differentiate(stage.graph, {
		outputs: outputs.map(([, name]) => name),
		losses: lossOutputs,
		inputs: inputs.map(([, name]) => name),
		weights,
		resident,
		recompute,
	});
	const unreached = new Set<string>(d.unreached);
	const trainedWeights = weights.filter((w) => !unreached.has(w));
	return {
		stage,
		forward: d.forward,
		saved: d.saved,
		backward: accumulate(d.backward, trainedWeights),
		inputGrads: inputs.filter(([, name]) => !unreached.has(name)).map(([id, name]) => [id, gradName(name)] as const),
		outputGrads: outputs.map(([id, name]) => [id, gradName(name)] as const),
		weightGrads: trainedWeights.map((w) => [w, accumulatorName(w), gradName(w)] as const),
	};
}

/** The backward of a stage in two graphs, for schedules that part it; undefined when it has none. */
export function splitStage({ stage, backward, weightGrads }: TrainingStage, recompute: Recompute): SplitBackward | undefined {
	if (!backward) return undefined;
	const there = [...stage.parameters.map((p) => p.name as ValueName), ...weightGrads.map(([, sum]) => sum)];
	return splitBackward(
		backward,
		weightGrads.map(([, , output]) => output),
		there.filter((name) => backward.values.has(name)),
		// The first part has run the forward again already: what the second reads of it is handed on.
		recompute === 'full' ? 'views' : recompute,
	);
}

function accumulatorName(parameter: string): ValueName {
	return `sum.${parameter}` as ValueName;
}

/** Adds an accumulator input to each weight gradient, so that micro-batches sum up in place: grad = sum + grad. */
function accumulate(backward: Graph, weights: readonly ValueName[]): Graph {
	const values = new Map(backward.values);
	const rename = new Map<ValueName, ValueName>();
	const added: Node[] = [];
	const inputs = [...backward.inputs];
	for (const w of weights) {
		const grad = gradName(w);
		const fresh = `${grad}/micro` as ValueName;
		const sum = accumulatorName(w);
		const value = values.get(grad)!;
		values.set(fresh, { ...value, name: fresh });
		values.set(sum, { ...value, name: sum });
		inputs.push(sum);
		rename.set(grad, fresh);
		added.push({ op: 'Add', inputs: [sum, fresh], outputs: [grad], attributes: {}, scope: '' });
	}
	const map = <T extends ValueName | ''>(n: T): T => (rename.get(n as ValueName) as T | undefined) ?? n;
	const nodes = backward.nodes.map((n) => ({ ...n, inputs: n.inputs.map(map), outputs: n.outputs.map(map) }));
	return checkGraph({ ...backward, inputs, nodes: [...nodes, ...added], values }, 'accumulation');
}

/** Elements squared at once: they stay in a core's second-level cache. */
const normPiece = 2 ** 18;

/**
 * Sum of squares of flat gradient buffers of these sizes, over `copies`, in rows so that float32 rounding stays small: output [1]. Pieces are squared and
 * summed one after the other, since ONNX Runtime's ReduceSumSquare takes three times as long as a product and a sum in cache.
 */
export function normSquaredGraph(sizes: readonly number[], copies = 1): Graph {
	const g = createBuilder(`normSquared[${sizes.join('+')}]`);
	const sums = sizes.flatMap((size, k) => {
		const flat = g.input(sizes.length === 1 ? 'gradients' : `gradients${k}`, 'float32', [size]);
		const step = Math.max(normPiece, Math.ceil(size / 64 / normPiece) * normPiece);
		return Array.from({ length: Math.ceil(size / step) }, (_, i) => {
			const piece = size <= step ? flat : g.slice(flat, [i * step], [Math.min((i + 1) * step, size)], [0]);
			return g.reduceSum(g.reshape(g.mul(piece, piece), [-1, 4096]), [1], false);
		});
	});
	const total: Value = g.reduceSum(g.concat(sums, 0), [0], false);
	return g.finish([g.reshape(copies === 1 ? total : g.mul(total, 1 / copies), [1])]);
}
