/** @file What an engine must agree with: a chain as one graph in the reference interpreter, and AdamW written out in float64. */
import { sizeOf, type Tensor, tensor } from '../../src/core/tensor.ts';
import { createBuilder } from '../../src/graph/builder.ts';
import { gradients } from '../../src/graph/differentiate.ts';
import { evaluateGraph } from '../../src/graph/evaluate.ts';
import type { Graph, ValueName } from '../../src/graph/types.ts';
import { type Chain, stageGraph, traceChain } from '../../src/nn/chain.ts';
import type { Parameter } from '../../src/nn/context.ts';
import type { AdamwStep } from '../../src/program/adamw.ts';
import { uniformStream } from '../helpers/random.ts';

export type Weights = Map<string, Float32Array>;

/** A chain as one graph of loss and gradients, at one batch size. */
export interface Reference {
	readonly parameters: readonly Parameter[];
	/** Loss per sample, and the gradient of their sum for each parameter (zeros where none flows). */
	run(weights: Weights, feeds: Readonly<Record<string, Tensor>>): { losses: Tensor; grads: Weights };
}

export function referenceOf(chain: Chain, batch: number): Reference {
	const { graph, feeds: fed, sends, parameters } = stageGraph(traceChain(chain, batch), 0, chain.layers.length);
	const g = createBuilder('reference', graph);
	const [[, lossName]] = sends as [readonly [string, ValueName]];
	const value = graph.values.get(lossName)!;
	const wanted = parameters
		.filter((p) => p.trained && graph.values.has(p.name as ValueName))
		.map((p) => graph.values.get(p.name as ValueName)!);
	const found = gradients(
		g,
		[{ value, grad: g.expand(g.scalar(1), value.shape) }],
		wanted.map((v) => v),
	);
	const whole: Graph = g.finish([value, ...found.flatMap((v) => (v ? [v] : []))]);
	return {
		parameters,
		run(weights, feeds) {
			const inputs = new Map<ValueName, Tensor>(fed.map(([name, input]) => [input, feeds[name]!]));
			for (const { name, shape } of parameters) inputs.set(name as ValueName, { dtype: 'float32', shape, data: weights.get(name)! });
			const results = evaluateGraph(whole, inputs);
			const grads: Weights = new Map(parameters.map(({ name, shape }) => [name, new Float32Array(sizeOf(shape))]));
			wanted.forEach((v, i) => {
				const result = found[i];
				if (result) grads.set(v.name, results.get(result.name)!.data as Float32Array);
			});
			return { losses: results.get(lossName)!, grads };
		},
	};
}

/** The chain's outputs by name, computed as one graph. */
export function evaluateChain(chain: Chain, batch: number, weights: Weights, feeds: Readonly<Record<string, Tensor>>): Map<string, Tensor> {
	const trace = traceChain(chain, batch);
	const { graph, feeds: fed, sends, parameters } = stageGraph(trace, 0, chain.layers.length);
	const inputs = new Map<ValueName, Tensor>(fed.map(([name, input]) => [input, feeds[name]!]));
	for (const { name, shape } of parameters) inputs.set(name as ValueName, { dtype: 'float32', shape, data: weights.get(name)! });
	const results = evaluateGraph(graph, inputs);
	return new Map(sends.map(([id, value]) => [chain.outputs[trace.outputs.indexOf(id)]!, results.get(value)!]));
}

/** Seeded weights in [-0.5, 0.5). */
export function seededWeights(parameters: readonly Parameter[], seed = 3): Weights {
	const next = uniformStream(seed);
	return new Map(
		parameters.map(({ name, shape }) => [
			name,
			tensor(
				'float32',
				shape,
				Array.from({ length: sizeOf(shape) }, () => next() - 0.5),
			).data,
		]),
	);
}

/** AdamW with decoupled weight decay and clipping by global norm, and a moving average of the weights; plain float64 arithmetic. */
export class ReferenceAdamw {
	readonly weights: ReadonlyMap<string, Float64Array>;
	readonly average: ReadonlyMap<string, Float64Array>;
	private readonly fixed: ReadonlySet<string>;
	private readonly first: ReadonlyMap<string, Float64Array>;
	private readonly second: ReadonlyMap<string, Float64Array>;

	/** Names in `fixed` stay as they are. */
	constructor(weights: Weights, fixed: ReadonlySet<string> = new Set()) {
		this.fixed = fixed;
		const copy = () => new Map([...weights].map(([name, w]) => [name, Float64Array.from(w)]));
		this.weights = copy();
		this.average = copy();
		this.first = new Map([...weights].map(([name, w]) => [name, new Float64Array(w.length)]));
		this.second = new Map([...weights].map(([name, w]) => [name, new Float64Array(w.length)]));
	}

	/** Updates everything; returns the squared norm of the gradients. */
	update(grads: Weights, { lr, betas: [b1, b2], eps, weightDecay, step, maxGradNorm, emaDecay }: AdamwStep): number {
		const squared = [...grads.values()].reduce((sum, g) => sum + g.reduce((s, v) => s + v * v, 0), 0);
		const clip = Math.min(1, maxGradNorm / (Math.sqrt(squared) + 1e-6));
		for (const [name, w] of this.weights) {
			if (this.fixed.has(name)) continue;
			const [m, v, average, grad] = [this.first.get(name)!, this.second.get(name)!, this.average.get(name)!, grads.get(name)!];
			for (let i = 0; i < w.length; i++) {
				const d = grad[i]! * clip;
				m[i] = b1 * m[i]! + (1 - b1) * d;
				v[i] = b2 * v[i]! + (1 - b2) * d * d;
				const [mHat, vHat] = [m[i]! / (1 - b1 ** step), v[i]! / (1 - b2 ** step)];
				w[i] = w[i]! * (1 - lr * weightDecay) - (lr * mHat) / (Math.sqrt(vHat) + eps);
				average[i] = emaDecay * average[i]! + (1 - emaDecay) * w[i]!;
			}
		}
		return squared;
	}

	/** The weights as an engine holds them. */
	rounded(): Weights {
		return new Map([...this.weights].map(([name, w]) => [name, Float32Array.from(w)]));
	}
}
