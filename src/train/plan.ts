/** @file Lays a training run over devices: measures every layer, cuts the chain by time, lowers and verifies. */
import { availableParallelism } from 'node:os';
import { DiffusionPipeError } from '../core/errors.ts';
import { byteSize } from '../core/tensor.ts';
import { measureProfile } from '../engine/local/profile.ts';
import type { Recompute } from '../graph/saved.ts';
import { type Chain, type ChainTrace, liveAt, traceChain } from '../nn/chain.ts';
import { draftPlan } from '../plan/draft.ts';
import { partitionChain } from '../plan/partition/chain.ts';
import { layerMs } from '../plan/profile/times.ts';
import type { Profile } from '../plan/profile/types.ts';
import { placeSchedule, placeStages } from '../plan/schedules/index.ts';
import { parseSchedule } from '../plan/schedules/text.ts';
import type { PlacedSchedule } from '../plan/schedules/types.ts';
import { simulatePlan } from '../plan/search/simulate-plan.ts';
import type { Plan } from '../plan/types.ts';
import { adamwHyperSize } from '../program/adamw.ts';
import { type Compiled, lowerPipelines, signatureOf, stageRanges } from '../program/lower.ts';
import { trainedDefinitions, trainingStage } from '../program/stage.ts';
import { verifyProgram } from '../program/verify.ts';
import { chunksOf, devicesPerPipeline, placeOptionsOf, replicasOf, stageCount } from './layout.ts';
import { localCluster, type Planned, withPeaks } from './planned.ts';
import { firstThatFits, type SettledConfig } from './recompute.ts';
import { conditioned, type SelfConditioning } from './self-conditioning.ts';
import type { SessionConfig } from './session.ts';

/** A compiled run with what is known of its stages. */
export interface TrainingPlan {
	readonly trace: ChainTrace;
	readonly compiled: Compiled;
	readonly cuts: readonly number[];
	/** What the backward computes again. */
	readonly recompute: Recompute;
	/** Per stage: layer names, and measured forward + backward time per micro-batch (0 when nothing was measured). */
	readonly stages: readonly { readonly layers: readonly string[]; readonly ms: number }[];
	/** What the cuts were made from and what that predicts; absent when nothing was measured. */
	readonly planned?: Planned;
}

/** Devices a config uses. */
export function deviceCount({ parallel: p }: Pick<SessionConfig, 'parallel'>): number {
	return devicesPerPipeline(p) * p.data_parallel;
}

/** Samples of one micro-batch. */
export function microBatchSize({ train: t, parallel: p }: SessionConfig): number {
	return t.batch_size / (p.data_parallel * t.gradient_accumulation_steps);
}

/**
 * Throws a config error when a chain of `layers` cannot be laid out as `config` says: more stages than layers, cuts that are none of it, an unknown schedule;
 * an input error when the schedule cannot be made for these stages and micro-batches. Nothing need be measured to know.
 */
export function checkLayout(config: SessionConfig, layers: number): void {
	const { parallel: p } = config;
	const count = stageCount(p);
	if (count > layers) {
		throw new DiffusionPipeError('config', 'there are more stages than layers', {
			place: 'parallel.pipeline_stages',
			expected: `at most ${layers}${count > p.pipeline_stages ? ' stages' : ''}`,
			found: String(count),
		});
	}
	placeStages(p.pipeline_schedule, placeOptionsOf(config), 'parallel.pipeline_schedule');
	const cuts = p.partition_method === 'manual' ? p.partition_split! : [];
	if ([0, ...cuts].some((cut, i) => cut >= (cuts[i] ?? layers))) {
		throw new DiffusionPipeError('config', 'cuts the model where it has no layers', {
			place: 'parallel.partition_split',
			expected: `rising numbers from 1 to ${layers - 1}`,
			found: `[${cuts.join(', ')}]`,
		});
	}
}

/**
 * Compiles `chain` (with its objective) as `config` says. `known` is taken instead of measuring: cuts, so that a resumed run is cut as it was, a profile to
 * cut by, or both, the profile then being what the cuts are predicted from. With `selfConditioning` there is a program of steps with a sweep ahead, too. Throws a config error when there are more stages than layers, a program error when memory does not suffice.
 */
export async function planTraining(
	config: SessionConfig,
	chain: Chain,
	moments: number,
	known: {
		readonly cuts?: readonly number[];
		readonly profile?: Profile;
		readonly selfConditioning?: SelfConditioning | undefined;
	} = {},
): Promise<TrainingPlan> {
	const { parallel: p } = config;
	const trace = traceChain(chain, microBatchSize(config));
	checkLayout(config, chain.layers.length);
	const count = stageCount(p);
	const schedule = placeSchedule(p.pipeline_schedule, placeOptionsOf(config), 'parallel.pipeline_schedule');
	const manual = p.partition_method === 'manual' ? p.partition_split! : undefined;
	const cuts = count === 1 ? [] : (manual ?? (known.cuts?.length === count - 1 ? known.cuts : undefined));
	const { selfConditioning } = known;
	const measured = known.profile ?? (cuts ? undefined : await measureLayers(config, chain, moments));
	const profile = measured && conditioned(measured, selfConditioning);
	const laid = { trace, schedule, moments, selfConditioning };
	return firstThatFits(config, (settled) => {
		if (!cuts) return cutByProfile(settled, { ...laid, profile: profile! });
		return compiledRun(settled, { ...laid, cuts, ...(profile ? { planned: planOfCuts(settled, profile, cuts) } : {}) });
	});
}

/** What a run is compiled from. */
interface Laid {
	readonly trace: ChainTrace;
	readonly schedule: PlacedSchedule;
	readonly moments: number;
	readonly selfConditioning: SelfConditioning | undefined;
}

/** Compiles with the cuts that measured times and memory make best. */
function cutByProfile(config: SettledConfig, { profile, ...laid }: Laid & { readonly profile: Profile }): TrainingPlan {
	const { parallel: p } = config;
	const { stages } = laid.schedule;
	// Each stage of a rank may take its share of the rank's memory.
	const limitBytes = p.memory_bytes / chunksOf(p);
	const memory = p.memory_bytes > 0 ? { memory: { layerBytes: layerBytes(config, laid.trace), limitBytes } } : {};
	const replicas = stages.map(({ rank }) => replicasOf(p)[rank]!);
	const cuts = partitionChain({ layerMs: layerMs(profile.backbones[0]!), stages: stages.length, replicas, ...memory })
		.stages.slice(1)
		.map((s) => s.from);
	return compiledRun(config, { ...laid, cuts, planned: planOfCuts(config, profile, cuts) });
}

function compiledRun(
	config: SettledConfig,
	{ trace, schedule, moments, cuts, selfConditioning, planned }: Laid & { readonly cuts: readonly number[]; readonly planned?: Planned },
): TrainingPlan {
	const { parallel: p, train: t } = config;
	const { layers } = trace.chain;
	const compiled = lowerPipelines([{ trace, cuts, ...(selfConditioning ? { selfConditioning } : {}) }], {
		schedule,
		...(selfConditioning ? { sweptSchedule: sweptSchedule(config, planned?.plan) } : {}),
		pipelines: p.data_parallel,
		replicas: replicasOf(p),
		microBatches: t.gradient_accumulation_steps,
		microBatchSize: trace.batch,
		recompute: p.activation_checkpointing,
		moments,
		hyperSize: adamwHyperSize,
	});
	verifyProgram(compiled.program, p.memory_bytes > 0 ? { memoryBytes: p.memory_bytes } : {});
	const ms = planned ? layerMs(planned.profile.backbones[0]!) : new Array<number>(layers.length).fill(0);
	const stages = stageRanges(layers.length, cuts).map(([from, to]) => ({
		layers: layers.slice(from, to).map((l) => l.name),
		ms: ms.slice(from, to).reduce((a, b) => a + b, 0),
	}));
	const counted = planned && { ...planned, plan: withPeaks(planned.plan, compiled.program) };
	return { trace, compiled, cuts, stages, recompute: p.activation_checkpointing, ...(counted ? { planned: counted } : {}) };
}

/** Samples that a device of the run sees at once, ascending: a micro-batch, or a replica's share of it. */
export function measuredSizes(config: SessionConfig): number[] {
	const shares = replicasOf(config.parallel).map((n) => Math.ceil(microBatchSize(config) / n));
	return [...new Set([...shares, microBatchSize(config)])].sort((a, b) => a - b);
}

/** The schedule of steps with a sweep ahead: that of the plan, where there is one. */
export function sweptSchedule(config: SessionConfig, plan: Plan | undefined): PlacedSchedule {
	const placed = placeSchedule(config.parallel.pipeline_schedule, { ...placeOptionsOf(config), selfConditioning: true });
	const rows = plan?.selfConditioning?.rows;
	return rows ? { ...placed, rows: parseSchedule(rows.map((row) => `${row}\n`).join('')) } : placed;
}

/** The profile of the run's chain at its micro-batch, measured on as many threads as will compute side by side. */
export function measureLayers(config: SessionConfig, chain: Chain, moments: number): Promise<Profile> {
	const { parallel: p } = config;
	return measureProfile(
		{ name: chain.name, backbones: [{ name: 'backbone', chain, losses: ['loss'] }], frozen: [] },
		{
			batchSizes: measuredSizes(config),
			threads: p.threads_per_device,
			devices: Math.min(deviceCount(config), availableParallelism()),
			average: moments > 2,
		},
	);
}

/** What cutting a profile's backbone so is predicted to take. */
export function planOfCuts(config: SessionConfig, profile: Profile, cuts: readonly number[]): Planned {
	const { parallel: p, train: t } = config;
	const cluster = localCluster(deviceCount(config), p.memory_bytes);
	const draft = draftPlan(profile, cluster, t.batch_size, [cuts], {
		microBatches: t.gradient_accumulation_steps,
		pipelines: p.data_parallel,
		schedule: p.pipeline_schedule,
		placement: p.placement,
		chunks: chunksOf(p),
		replicas: replicasOf(p),
		recompute: p.activation_checkpointing === 'full',
	});
	return { profile, cluster, plan: simulatePlan(draft, profile, cluster, 0).plan };
}

/** Bytes of every layer: parameters with gradients and moments, saved values, and what its forward needs besides. */
function layerBytes(config: SettledConfig, trace: ChainTrace): number[] {
	const trained = trainedDefinitions(trace);
	return trace.chain.layers.map((_, i) => {
		const back = new Set(liveAt(trace, i + 1).filter((id) => trained.has(id)));
		const { stage, forward } = trainingStage(
			trace,
			i,
			i + 1,
			microBatchSize(config),
			back,
			trace.outputs,
			config.parallel.activation_checkpointing,
		);
		const parameters = stage.parameters.reduce((n, p) => n + byteSize({ dtype: 'float32', shape: p.shape }), 0);
		const { outputs, workspaceBytes } = signatureOf(forward);
		return 4 * parameters + workspaceBytes + outputs.reduce((n, o) => n + byteSize(o), 0);
	});
}
