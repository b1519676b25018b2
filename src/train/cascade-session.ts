/** @file Two chains with an optimiser each, trained in one program: one pipeline down the devices and one up, each working where the other waits. */
import { availableParallelism } from 'node:os';
import { DiffusionPipeError } from '../core/errors.ts';
import type { Tensor } from '../core/tensor.ts';
import { createLocalEngine } from '../engine/local/engine.ts';
import { measureProfile } from '../engine/local/profile.ts';
import { type Chain, traceChain } from '../nn/chain.ts';
import { partitionChain } from '../plan/partition/chain.ts';
import { placeSchedule } from '../plan/schedules/index.ts';
import { adamwGraph, adamwHyperSize } from '../program/adamw.ts';
import { type CompiledPipelines, lowerPipelines, stageRanges } from '../program/lower.ts';
import { verifyProgram } from '../program/verify.ts';
import { type BackboneName, backboneNames } from './cascade-config.ts';
import { placeOptionsOf, replicasOf } from './layout.ts';
import { initialValues, type PlacedParameter, placedParameters } from './parameters.ts';
import { deviceCount, microBatchSize } from './plan.ts';
import type { SessionConfig, TrainingSession } from './session.ts';

/** Something for each of the two backbones. */
export type PerBackbone<T> = Readonly<Record<BackboneName, T>>;

/** `of` for each of the two backbones. */
export function perBackbone<T>(of: (name: BackboneName) => T): PerBackbone<T> {
	return { base: of('base'), super_resolution: of('super_resolution') };
}

export interface CascadeSession {
	readonly compiled: CompiledPipelines;
	readonly cuts: PerBackbone<readonly number[]>;
	/** Layers and measured times of every stage (0 where nothing was measured), down the devices for the base, then for the other. */
	readonly stages: TrainingSession['plan']['stages'];
	readonly parameters: PerBackbone<readonly PlacedParameter[]>;
	/** One optimiser step of each: the sum of its chain's `loss` over the batch, and its own gradient norm before clipping. */
	step(
		feeds: PerBackbone<Readonly<Record<string, Tensor>>>,
		hyper: PerBackbone<Float32Array>,
	): Promise<PerBackbone<{ readonly loss: number; readonly gradNorm: number }>>;
	close(): Promise<void>;
}

export interface CascadeSessionOptions {
	/** Keep a moving average of the weights, in the third moment. */
	readonly average: boolean;
	/** Gives every parameter its first values, a function of its backbone's seed and its name; absent: they are left zero, to be read. */
	readonly seeds?: PerBackbone<number>;
	/** Cuts to take instead of measuring, where there are as many as the config has stages. */
	readonly cuts?: PerBackbone<readonly number[]>;
}

/**
 * Lays both chains (one output, `loss`, each) over the ranks of `config.base`, in opposite directions, and starts the devices. The caller closes the session.
 * @throws DiffusionPipeError of kind 'config' when there are more stages than layers, 'program' when memory does not suffice
 */
export async function openCascadeSession(
	chains: PerBackbone<Chain>,
	config: PerBackbone<SessionConfig>,
	{ average, seeds, cuts: known }: CascadeSessionOptions,
): Promise<CascadeSession> {
	const { parallel: p, train: t } = config.base;
	const stages = p.pipeline_stages;
	const batch = microBatchSize(config.base);
	const moments = average ? 3 : 2;
	for (const name of backboneNames) {
		const { length } = chains[name].layers;
		if (stages <= length) continue;
		throw new DiffusionPipeError('config', `there are more stages than layers of ${name}`, {
			place: 'parallel.pipeline_stages',
			expected: `at most ${length}`,
			found: String(stages),
		});
	}
	let ms = perBackbone((name) => new Array<number>(chains[name].layers.length).fill(0));
	let cuts = known?.base.length === stages - 1 ? known : undefined;
	if (stages === 1) cuts = perBackbone(() => []);
	else if (p.partition_method === 'manual') cuts = perBackbone((name) => config[name].parallel.partition_split!);
	if (!cuts) {
		ms = await layerTimes(chains, config.base, batch, average);
		cuts = perBackbone((name) =>
			partitionChain({ layerMs: ms[name], stages })
				.stages.slice(1)
				.map((s) => s.from),
		);
	}
	const compiled = lowerPipelines(
		backboneNames.map((name) => ({ trace: traceChain({ ...chains[name], name }, batch), cuts: cuts[name] })),
		{
			schedule: placeSchedule('bidirectional', { ...placeOptionsOf(config.base), backbones: 2 }, 'parallel.pipeline_schedule'),
			pipelines: p.data_parallel,
			replicas: replicasOf(p),
			microBatches: t.gradient_accumulation_steps,
			microBatchSize: batch,
			recompute: p.activation_checkpointing,
			moments,
			hyperSize: adamwHyperSize,
		},
	);
	verifyProgram(compiled.program, p.memory_bytes > 0 ? { memoryBytes: p.memory_bytes } : {});
	const engine = await createLocalEngine(compiled, { update: adamwGraph(average), threads: p.threads_per_device });
	const parameters = perBackbone((name) => {
		const b = backboneNames.indexOf(name);
		return placedParameters(
			engine,
			compiled.banks.filter((_, n) => compiled.stages[n]!.backbone === b),
		);
	});
	for (const name of seeds ? backboneNames : []) {
		for (const parameter of parameters[name]) {
			const values = initialValues(parameter, seeds![name]);
			for (const view of parameter.views('parameter')) view.set(values);
			if (average) for (const view of parameter.views({ moment: 2 })) view.set(values);
		}
	}
	return {
		compiled,
		cuts,
		parameters,
		stages: backboneNames.flatMap((name) =>
			stageRanges(chains[name].layers.length, cuts[name]).map(([from, to]) => ({
				layers: chains[name].layers.slice(from, to).map((layer) => `${name}.${layer.name}`),
				ms: ms[name].slice(from, to).reduce((a, b) => a + b, 0),
			})),
		),
		async step(feeds, hyper) {
			const fed: Record<string, Tensor> = {};
			for (const name of backboneNames) {
				for (const [input, value] of Object.entries(feeds[name])) fed[`${name}.${input}`] = value;
				fed[`${name}.hyper`] = { dtype: 'float32', shape: [hyper[name].length], data: hyper[name] };
			}
			const { fetched } = await engine.run('iteration', fed);
			const numbers = (name: string) => fetched.get(name)!.data as Float32Array;
			return perBackbone((name) => ({
				loss: numbers(`${name}.loss`).reduce((a, b) => a + b, 0),
				gradNorm: Math.sqrt(numbers(`${name}.normSquared`)[0]!),
			}));
		},
		close: () => engine.close(),
	};
}

/** Forward and backward of every layer at the micro-batch, ms. */
async function layerTimes(
	chains: PerBackbone<Chain>,
	config: SessionConfig,
	batch: number,
	average: boolean,
): Promise<PerBackbone<number[]>> {
	const backbones = backboneNames.map((name) => ({ name, chain: chains[name], losses: ['loss'] }));
	const profile = await measureProfile(
		{ name: 'cascade', backbones, frozen: [] },
		{
			batchSizes: [batch],
			threads: config.parallel.threads_per_device,
			devices: Math.min(deviceCount(config), availableParallelism()),
			average,
		},
	);
	return perBackbone((name) =>
		profile.backbones[backboneNames.indexOf(name)]!.layers.map((l) => l.forwardMs[0]! + l.backwardInputMs[0]! + l.backwardWeightMs[0]!),
	);
}
