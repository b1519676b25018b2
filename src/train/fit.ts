/** @file The bare training loop of a chain with its objective: data, steps, and the averaged weights at the end. */
import { DiffusionPipeError } from '../core/errors.ts';
import { type Shape, type Tensor, tensor } from '../core/tensor.ts';
import type { NamedTensor } from '../io/safetensors.ts';
import type { Chain } from '../nn/chain.ts';
import type { DataOptions } from './data/index.ts';
import { openLoader } from './data/loader.ts';
import type { Batch, DataSetInfo } from './data/types.ts';
import { hyperOf, openSession, type SessionConfig } from './session.ts';

/** How a chain is trained. */
export interface FitOptions {
	readonly config: SessionConfig;
	readonly data: DataOptions;
	/** Of the first weights and of the order of the data. */
	readonly seed: number;
	readonly onStep?: (step: FitStep) => void;
	/** When aborted, the step under way is finished and the weights as they are then are given. */
	readonly signal?: AbortSignal;
}

export interface FitStep {
	/** Steps done. */
	readonly step: number;
	readonly loss: number;
	readonly gradNorm: number;
	readonly lr: number;
}

/** A trained parameter. */
export interface FittedParameter {
	readonly shape: Shape;
	readonly data: Float32Array;
}

/** Weights by parameter name: their moving average when `train.ema_decay` is above 0. */
export type FittedWeights = ReadonlyMap<string, FittedParameter>;

/**
 * Trains `chain`, whose single output `loss` sums to the mean over the global batch, for `train.max_steps` steps. `feedsFor` is called once the data
 * is open and gives what turns a batch into the chain's inputs.
 * @throws DiffusionPipeError: config and input errors before any work, an engine error when a loss is no longer a number
 */
export async function fitChain(
	chain: Chain,
	options: FitOptions,
	feedsFor: (info: DataSetInfo) => (batch: Batch) => Record<string, Tensor>,
): Promise<FittedWeights> {
	const { config, data, seed, onStep, signal } = options;
	const { batch_size: batchSize, max_steps: steps, ema_decay, flip } = config.train;
	const average = ema_decay > 0;
	const loader = await openLoader(data, { seed, batchSize, flip });
	try {
		const feedsOf = feedsFor(loader.info);
		const session = await openSession(chain, config, { average, seed });
		try {
			const prepare = async (step: number) => (step < steps ? feedsOf(await loader.batchAt(step)) : {});
			let prepared = prepare(0);
			for (let step = 0; step < steps && !signal?.aborted; step++) {
				const feeds = await prepared;
				const { lr, hyper } = hyperOf(config, step);
				const running = session.step(feeds, hyper);
				prepared = prepare(step + 1);
				// A failed load is thrown when its turn comes; until then it must not count as unhandled.
				prepared.catch(() => {});
				const { loss, gradNorm } = await running;
				if (!Number.isFinite(loss) || !Number.isFinite(gradNorm)) {
					throw new DiffusionPipeError('engine', 'the loss is no longer a finite number', {
						place: `${chain.name}, step ${step + 1}`,
						found: `loss ${loss}, gradient norm ${gradNorm}`,
						hint: 'lower optimizer.lr',
					});
				}
				onStep?.({ step: step + 1, loss, gradNorm, lr });
			}
			const role = average ? ({ moment: 2 } as const) : 'parameter';
			return new Map(session.parameters.map((p) => [p.name, { shape: p.shape, data: p.views(role)[0]!.slice() }]));
		} finally {
			await session.close();
		}
	} finally {
		await loader.close();
	}
}

/** The weights rounded to float16, half the size, as tensors to save in a model folder. */
export function halfWeights(weights: FittedWeights): (NamedTensor & Tensor<'float16'>)[] {
	return [...weights].map(([name, { shape, data }]) => ({ name, ...tensor('float16', shape, data) }));
}
