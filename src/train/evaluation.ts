/**
 * @file The loss on held-out examples at fixed quantiles of the noise levels, each example with noise of its own that never changes: values of different
 * steps and runs differ by the weights alone. It runs forward on the run's devices, over the run's own weights.
 */
import { randomStream } from '../core/random.ts';
import { sizeOf, type Tensor } from '../core/tensor.ts';
import { evaluationChain } from '../diffusion/objective.ts';
import { sigmaAtQuantile } from '../diffusion/timesteps.ts';
import type { LocalEngine } from '../engine/local/engine.ts';
import type { Denoiser } from '../models/index.ts';
import { traceChain } from '../nn/chain.ts';
import { lowerForward } from '../program/lower.ts';
import type { TrainConfig } from './config.ts';
import { feedAssembler, type Process, sharedBuffers, sigmaDensity } from './feeds.ts';
import type { HeldOut } from './held-out.ts';
import type { BankRole, PlacedParameter } from './parameters.ts';
import { openOverWeights } from './shared-weights.ts';

/** One measurement. */
export interface Evaluated {
	/** Mean over the quantiles. */
	readonly loss: number;
	/** Mean over the examples at each quantile of the noise levels, 0 the least noise. */
	readonly quantiles: readonly { readonly quantile: number; readonly loss: number }[];
	/** Examples measured. */
	readonly samples: number;
}

export interface Evaluation {
	/** Measures with the present weights. Call it between steps only. */
	run(): Promise<Evaluated>;
	close(): Promise<void>;
}

/** What is measured, and on what. */
export interface EvaluationSetup {
	readonly config: TrainConfig;
	readonly denoiser: Denoiser;
	readonly process: Process;
	readonly parameters: readonly PlacedParameter[];
	/** First layers of the stages after the first, of the chain with its objective. */
	readonly cuts: readonly number[];
	readonly examples: readonly HeldOut[];
	/** The weights to measure. */
	readonly role: BankRole;
}

/** The schedule's timestep that a share `quantile` of those trained on lie below. */
export function timestepAtQuantile(
	config: Pick<TrainConfig, 'objective'>,
	{ process, predictionType, shift }: Process,
	quantile: number,
): number {
	const high = process.numTrainTimesteps;
	if (predictionType !== 'flow_prediction') return Math.min(high - 1, Math.floor(quantile * high));
	return sigmaAtQuantile(quantile, { density: sigmaDensity(config), shift }) * high;
}

/**
 * Prepares the evaluation; its threads start with the first run. Every example goes through the same graphs in the same company however many devices
 * share them, and sums are made here in float64: one device and many give the same bits where their stages are cut alike.
 */
export function openEvaluation(setup: EvaluationSetup): Evaluation {
	const { config, denoiser, process, parameters, cuts, examples, role } = setup;
	const { parallel: p, seed } = config;
	const { quantiles, batch_size: batch } = config.eval;
	const stages = cuts.length + 1;
	const batches = Math.ceil((examples.length * quantiles.length) / batch);
	const copies = Math.min(p.data_parallel, batches);
	// Enough to keep every stage of a copy at work most of the time.
	const microBatches = Math.min(stages === 1 ? 1 : 2 * stages, Math.ceil(batches / copies));
	const rows = copies * microBatches * batch;
	const chain = evaluationChain(denoiser.chain, { sample: denoiser.sample, output: denoiser.output });
	const assemble = feedAssembler(config, denoiser, process);
	const timesteps = quantiles.map((quantile) => timestepAtQuantile(config, process, quantile));
	const memory = sharedBuffers(1);
	const size = sizeOf(denoiser.chain.inputs[denoiser.sample]!.shape);
	let engine: Promise<LocalEngine> | undefined;
	const start = () => {
		const compiled = lowerForward(traceChain(chain, batch), { devices: copies * stages, microBatchSize: batch, cuts, microBatches });
		const shared = { parameters, role, copyOf: (device: number) => Math.floor(device / stages) };
		return openOverWeights(compiled, shared, p.threads_per_device);
	};
	/** Rows [from, from + rows) of all examples at the first quantile, then all at the second and so on; past the end the first again. */
	const feedsFrom = (from: number): Record<string, Tensor> => {
		const total = examples.length * quantiles.length;
		const row = Array.from({ length: rows }, (_, k) => (from + k) % total);
		const example = (k: number) => examples[row[k]! % examples.length]!;
		const level = (k: number) => Math.floor(row[k]! / examples.length);
		const samples = new Float32Array(rows * size);
		row.forEach((_, k) => {
			samples.set(example(k).sample, k * size);
		});
		const names = Object.keys(examples[0]!.conditioning);
		const conditioning = Object.fromEntries(
			names.map((name) => {
				const width = examples[0]!.conditioning[name]!.length;
				const all = new Float32Array(rows * width);
				row.forEach((_, k) => {
					all.set(example(k).conditioning[name]!, k * width);
				});
				return [name, all];
			}),
		);
		const noise = (out: Float32Array) =>
			row.forEach((_, k) => {
				const stream = randomStream(seed, `eval.noise.${example(k).name}`);
				stream.normals(out.subarray(k * size, (k + 1) * size), Math.round(quantiles[level(k)]! * 1e6));
			});
		const data = {
			count: rows,
			samples,
			noise,
			timesteps: row.map((_, k) => timesteps[level(k)]!),
			label: (k: number) => example(k).label,
		};
		return assemble({ ...data, conditioning }, (key, bytes) => memory(key, 0, bytes));
	};
	return {
		async run() {
			engine ??= start();
			const running = await engine;
			const losses: number[] = [];
			for (let from = 0; from < batches * batch; from += rows) {
				const { fetched } = await running.run('iteration', feedsFrom(from));
				losses.push(...(fetched.get('sample_loss')!.data as Float32Array));
			}
			const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;
			const count = examples.length;
			const each = quantiles.map((quantile, q) => ({ quantile, loss: mean(losses.slice(q * count, (q + 1) * count)) }));
			return { loss: mean(each.map(({ loss }) => loss)), quantiles: each, samples: count };
		},
		async close() {
			await (await engine?.catch(() => undefined))?.close();
		},
	};
}
