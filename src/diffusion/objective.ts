/** @file The training objective as layers of the chain: noising before the model, the weighted error after it. */
import { sizeOf } from '../core/tensor.ts';
import type { GraphBuilder } from '../graph/builder.ts';
import type { Value } from '../graph/types.ts';
import type { Chain, ChainInput, Layer } from '../nn/chain.ts';

/** Which live names of a model's chain the objective connects to. */
export interface ObjectiveOptions {
	/** Chain input of the model that takes the noised sample, e.g. `hidden_states`. */
	readonly sample: string;
	/** Chain output that is the prediction, e.g. `sample`. */
	readonly output: string;
	/** Of a self-conditioned model: its estimate of the clean sample is the live value `x0Estimate`, clipped to [-limit, limit]. */
	readonly selfConditioning?: { readonly limit: number } | undefined;
	/** Samples whose losses add up to the mean: the global batch. */
	readonly globalBatch: number;
}

/** Inputs the objective adds to those of the model; all per sample. */
export const objectiveInputs = (sample: ChainInput): Readonly<Record<string, ChainInput>> => ({
	/** Clean sample and noise. */
	x0: sample,
	noise: sample,
	/** The model sees `signal * x0 + spread * noise`. */
	signal: { dtype: 'float32', shape: [] },
	spread: { dtype: 'float32', shape: [] },
	/** It shall predict `target_x0 * x0 + target_noise * noise`. */
	target_x0: { dtype: 'float32', shape: [] },
	target_noise: { dtype: 'float32', shape: [] },
	loss_weight: { dtype: 'float32', shape: [] },
});

/** The live value of self-conditioned chains that is fed back. */
export const x0Estimate = 'x0_estimate';

/** Inputs it is made from, per sample: x0 = `estimate_sample` x_t + `estimate_output` output. */
const estimateInputs: Readonly<Record<string, ChainInput>> = {
	estimate_sample: { dtype: 'float32', shape: [] },
	estimate_output: { dtype: 'float32', shape: [] },
};

/**
 * The model's chain with a noising layer before and a loss layer after it. Every prediction type is a linear combination of clean
 * sample and noise, so one graph serves all of them. Output `loss` [1]: sum over the samples of this micro-batch of
 * weight * mean((prediction - target)^2) / globalBatch, so that micro-batches and replicas simply add up.
 * A model that also predicts variances (twice the channels) is trained on the first half.
 */
export function trainingChain(model: Chain, options: ObjectiveOptions): Chain {
	return objectiveChain(model, options, 'loss', options.globalBatch, (g, loss_B) => g.reduceSum(loss_B, [0], true));
}

/** Like `trainingChain`, but output `sample_loss` [batch] is the weighted error of each sample by itself: what held-out samples are measured with. */
export function evaluationChain(model: Chain, options: Omit<ObjectiveOptions, 'globalBatch'>): Chain {
	return objectiveChain(model, options, 'sample_loss', 1, (_, loss_B) => loss_B);
}

/** `finish` makes the output from each sample's loss over `samples`. */
function objectiveChain(
	model: Chain,
	options: Omit<ObjectiveOptions, 'globalBatch'>,
	result: string,
	samples: number,
	finish: (g: GraphBuilder, loss_B: Value) => Value,
): Chain {
	const sample = model.inputs[options.sample]!;
	const { [options.sample]: _, ...others } = model.inputs;
	const estimate = options.selfConditioning;
	const noising: Layer = {
		name: 'noising',
		path: '',
		build({ g }, live) {
			live.set(options.sample, combine(g, live.get('x0'), live.get('signal'), live.get('noise'), live.get('spread')));
		},
	};
	const loss: Layer = {
		name: 'loss',
		path: '',
		build({ g }, live) {
			const target = combine(g, live.get('x0'), live.get('target_x0'), live.get('noise'), live.get('target_noise'));
			const output = live.get(options.output);
			const channels = target.shape[1]!;
			const prediction = output.shape[1] === channels ? output : g.slice(output, [0], [channels], [1]);
			if (estimate) {
				const noised = combine(g, live.get('x0'), live.get('signal'), live.get('noise'), live.get('spread'));
				const own = combine(g, noised, live.get('estimate_sample'), prediction, live.get('estimate_output'));
				live.set(x0Estimate, g.clip(own, -estimate.limit, estimate.limit));
			}
			const [batch] = target.shape as [number];
			const elements = sizeOf(sample.shape);
			const error = g.reshape(g.sub(prediction, target), [batch, elements]);
			const perSample = g.reduceSumSquare(error, [1], false);
			const weight = g.mul(live.get('loss_weight'), 1 / (elements * samples));
			live.set(result, finish(g, g.mul(perSample, weight)));
		},
	};
	return {
		name: model.name,
		inputs: { ...objectiveInputs(sample), ...(estimate ? estimateInputs : {}), ...others },
		layers: [noising, ...model.layers, loss],
		outputs: [result],
	};
}

/** a_B * x + b_B * y with coefficients per sample. */
function combine(g: GraphBuilder, x: Value, a_B: Value, y: Value, b_B: Value): Value {
	const axes = x.shape.slice(1).map((_, i) => i + 1);
	return g.add(g.mul(x, g.unsqueeze(a_B, axes)), g.mul(y, g.unsqueeze(b_B, axes)));
}
