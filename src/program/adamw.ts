/** @file AdamW as a graph over one chunk of a bank, with clipping by global norm and an optional moving average of the weights. */
import { createBuilder } from '../graph/builder.ts';
import type { Graph, Value } from '../graph/types.ts';
import { bankChunk } from './layout.ts';

/** Length of the hyperparameter vector; see `adamwHyper`. */
export const adamwHyperSize = 10;

export interface AdamwStep {
	/** Learning rate of this step. */
	readonly lr: number;
	readonly betas: readonly [number, number];
	readonly eps: number;
	readonly weightDecay: number;
	/** 1 for the first step: bias correction. */
	readonly step: number;
	/** Largest global gradient norm; Infinity: no clipping. */
	readonly maxGradNorm: number;
	/** Decay of the moving average at this step. */
	readonly emaDecay: number;
}

/** The vector `update` is fed each step. */
export function adamwHyper({ lr, betas: [b1, b2], eps, weightDecay, step, maxGradNorm, emaDecay }: AdamwStep): Float32Array {
	return Float32Array.of(
		1 - lr * weightDecay,
		b1,
		1 - b1,
		b2,
		1 - b2,
		1 / Math.sqrt(1 - b2 ** step),
		eps,
		lr / (1 - b1 ** step),
		Math.min(maxGradNorm, 3e38),
		1 - emaDecay,
	);
}

/**
 * Inputs: parameter, gradient, first and second moment, and with `ema` the average (each [bankChunk]), hyper, normSquared [1].
 * Outputs: the same without the last two, the gradient zeroed. Decoupled weight decay (Loshchilov & Hutter, 1711.05101) and
 * PyTorch's denominator sqrt(v) / sqrt(1 - beta2^t) + eps, here multiplied by sqrt(1 - beta2^t). Clipping scales by
 * min(1, max / (norm + 1e-6)) like `clip_grad_norm_`.
 */
export function adamwGraph(ema: boolean): Graph {
	const g = createBuilder(ema ? 'adamw.ema' : 'adamw');
	const chunk = (name: string) => g.input(name, 'float32', [bankChunk]);
	const [p, grad, m, v] = [chunk('parameter'), chunk('gradient'), chunk('first'), chunk('second')];
	const average = ema ? chunk('average') : undefined;
	const hyper = g.input('hyper', 'float32', [adamwHyperSize]);
	const normSquared = g.input('normSquared', 'float32', [1]);
	const [keep, b1, b1Rest, b2, b2Rest, correction, eps, rate, maxNorm, emaRest] = g.split(
		hyper,
		new Array<number>(adamwHyperSize).fill(1),
		0,
	) as Value[];
	const clip = g.min(g.div(maxNorm!, g.add(g.sqrt(normSquared), 1e-6)), 1);
	// Scalars are joined before they meet a chunk: each product with a chunk is a pass over it.
	const m1 = g.add(g.mul(m, b1!), g.mul(grad, g.mul(clip, b1Rest!)));
	const scaled = g.mul(grad, g.mul(clip, g.sqrt(b2Rest!)));
	const v1 = g.add(g.mul(v, b2!), g.mul(scaled, scaled));
	const denominator = g.add(g.sqrt(v1), g.div(eps!, correction!));
	const p1 = g.sub(g.mul(p, keep!), g.mul(g.div(m1, denominator), g.div(rate!, correction!)));
	// Made from p1, so that it cannot be written over the gradient before that is read.
	const zero = g.mul(p1, 0);
	const outputs = [p1, zero, m1, v1];
	if (average) outputs.push(g.add(average, g.mul(g.sub(p1, average), emaRest!)));
	return g.finish(outputs);
}
