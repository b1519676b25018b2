/** @file Plans a filled run on this machine: measures every layer, searches cuts and filling, lowers both into one program per device. */
import { availableParallelism } from 'node:os';
import { measureProfile } from '../../engine/local/profile.ts';
import type { Recompute } from '../../graph/saved.ts';
import { type Chain, traceChain } from '../../nn/chain.ts';
import type { Cluster } from '../../plan/cluster/types.ts';
import { draftPlan } from '../../plan/draft.ts';
import { componentOrder } from '../../plan/fill/order.ts';
import type { FillItem } from '../../plan/fill/types.ts';
import { partitionChain } from '../../plan/partition/chain.ts';
import type { PipelineTimeline } from '../../plan/pipeline/types.ts';
import { layerMs, timeAt } from '../../plan/profile/times.ts';
import type { Profile } from '../../plan/profile/types.ts';
import { placeStages } from '../../plan/schedules/index.ts';
import { searchPlan } from '../../plan/search/index.ts';
import { simulatePlan } from '../../plan/search/simulate-plan.ts';
import type { PlanAnswer, SearchOptions } from '../../plan/search/types.ts';
import type { Plan } from '../../plan/types.ts';
import { adamwHyperSize } from '../../program/adamw.ts';
import { type FilledProgram, type Filling, lowerFilled } from '../../program/fill/lower.ts';
import { plannedStarts } from '../../program/fill/starts.ts';
import type { FrozenPart } from '../../program/fill/types.ts';
import { lowerPlan } from '../../program/lower.ts';
import { sweptProgram } from '../../program/swept.ts';
import type { Program } from '../../program/types.ts';
import { verifyProgram } from '../../program/verify.ts';
import { chunksOf, placeOptionsOf, replicasOf, stageCount } from '../layout.ts';
import { checkLayout, deviceCount, microBatchSize } from '../plan.ts';
import { localCluster, type Planned, withPeaks } from '../planned.ts';
import { firstThatFits, type SettledConfig } from '../recompute.ts';
import { conditioned, type SelfConditioning } from '../self-conditioning.ts';
import type { SessionConfig } from '../session.ts';
import type { RunParts } from './parts.ts';

/** A filled run, compiled. */
export interface FilledPlan extends Planned {
	readonly timeline: PipelineTimeline;
	readonly compiled: FilledProgram;
	/** What the backward computes again. */
	readonly recompute: Recompute;
}

/** Frozen work that is not filled in: layer after layer when the pipeline is done, each on all devices at once, on equal shares of the batch. */
export function inlineItems(
	{ frozen, batchSizes }: Profile,
	{ batch, devices }: Pick<Plan, 'batch' | 'devices'>,
	endMs: number,
): FillItem[] {
	const bounds = Array.from({ length: devices + 1 }, (_, d) => Math.round((d * batch) / devices));
	return bounds.slice(1).flatMap((to, device) => {
		const from = bounds[device]!;
		let at = endMs;
		return componentOrder(frozen).flatMap((c) => {
			const { name, layers } = frozen[c]!;
			return layers.map(({ forwardMs }, layer): FillItem => {
				const startMs = at;
				at += timeAt(batchSizes, forwardMs, to - from);
				return { device, startMs, endMs: at, component: name, layer, samples: [from, to] };
			});
		});
	});
}

/** Batch sizes that a profile of the run is measured at: the micro-batch, and portions of a device's share of the batch for the frozen parts. */
export function profiledSizes(config: SessionConfig): number[] {
	const devices = deviceCount(config);
	const most = Math.max(microBatchSize(config), Math.ceil(config.train.batch_size / devices));
	const sizes = new Set([microBatchSize(config), ...replicasOf(config.parallel).map((n) => Math.ceil(microBatchSize(config) / n))]);
	for (let n = most; n >= 2 && sizes.size < 5; n = Math.ceil(n / 2)) sizes.add(n);
	return [...sizes].sort((a, b) => a - b);
}

/** The profile of `chain` with its frozen parts, measured on one device of this machine. Throws what `checkLayout` throws before anything is measured. */
export async function measureRun(
	config: SessionConfig,
	chain: Chain,
	{ parts }: RunParts,
	average: boolean,
	onProgress?: (what: string, done: number, total: number) => void,
): Promise<Profile> {
	const { parallel: p } = config;
	checkLayout(config, chain.layers.length);
	return measureProfile(
		{
			name: chain.name,
			backbones: [{ name: 'backbone', chain, losses: ['loss'] }],
			frozen: parts.map(({ name, chain: frozen, takes }) => ({
				name,
				chain: frozen,
				after: [...new Set(Object.values(takes).map(({ part }) => part))],
			})),
		},
		{
			batchSizes: profiledSizes(config),
			threads: p.threads_per_device,
			// No more than the machine runs side by side: more devices take turns.
			devices: Math.min(deviceCount(config), availableParallelism()),
			repeats: 5,
			average,
			...(onProgress ? { onProgress } : {}),
		},
	);
}

/** What is fixed beforehand. */
export interface FilledPlanOptions extends SearchOptions {
	/** Cuts to take, in place of the best; those that a config gives come first. */
	readonly cuts?: readonly number[] | undefined;
	/** Steps with a sweep ahead are planned and compiled beside those without. */
	readonly selfConditioning?: SelfConditioning | undefined;
}

/** Searches the filling of `config`'s layout under `measured` and compiles it. Throws what the search and lowering throw. */
export function compileFilled(
	config: SessionConfig,
	chain: Chain,
	run: RunParts,
	measured: Profile,
	moments: number,
	options: FilledPlanOptions = {},
): FilledPlan {
	checkLayout(config, chain.layers.length);
	const profile = conditioned(measured, options.selfConditioning);
	return firstThatFits(config, (settled) => compiledRun(settled, chain, run, profile, moments, options));
}

function compiledRun(
	config: SettledConfig,
	chain: Chain,
	{ parts, given }: RunParts,
	profile: Profile,
	moments: number,
	{ selfConditioning, ...options }: FilledPlanOptions,
): FilledPlan {
	const { parallel: p } = config;
	const cluster = localCluster(deviceCount(config), p.memory_bytes);
	const { plan, timeline, sweep } = laidOut(config, profile, cluster, options);
	const backbone = { chain, ...(selfConditioning ? { selfConditioning } : {}) };
	const training = lowerPlan(plan, [backbone], { moments, hyperSize: adamwHyperSize, recompute: p.activation_checkpointing });
	const filling = (program: Program, fill: readonly FillItem[], walked: PipelineTimeline): Filling => ({
		items: fill.length > 0 ? fill : inlineItems(profile, plan, walked.endMs),
		starts: plannedStarts(program, plan, walked),
	});
	const swept = sweptProgram(training.program);
	const traced = parts.map(({ name, chain: frozen, takes }): FrozenPart => ({ name, trace: traceChain(frozen, 1), takes }));
	const compiled = lowerFilled(training, {
		parts: traced,
		given,
		...filling(training.program, plan.fill, timeline),
		...(swept && sweep ? { swept: filling(swept, plan.selfConditioning!.fill, sweep.timeline) } : {}),
	});
	verifyProgram(compiled.program, p.memory_bytes > 0 ? { memoryBytes: p.memory_bytes } : {});
	return { profile, cluster, plan: withPeaks(plan, compiled.program), timeline, compiled, recompute: p.activation_checkpointing };
}

/** The plan of `config`'s layout: cut as given, with replicas by time alone, otherwise with the cuts that leave bubbles where frozen work fits. */
function laidOut(
	config: SessionConfig,
	profile: Profile,
	cluster: Cluster,
	{ cuts: given, ...options }: Omit<FilledPlanOptions, 'selfConditioning'>,
): PlanAnswer {
	const { parallel: p, train: t } = config;
	const fixed = {
		pipelines: p.data_parallel,
		microBatches: t.gradient_accumulation_steps,
		schedule: p.pipeline_schedule,
		warmup: 'usual',
		placement: p.placement,
		layout: 'pipelines',
		recompute: p.activation_checkpointing === 'full',
		...options,
	} as const;
	const wanted = p.partition_method === 'manual' ? p.partition_split : given;
	// The search knows two stages on a rank at most.
	if (!p.replicas && !wanted && chunksOf(p) <= 2)
		return searchPlan(profile, cluster, t.batch_size, { stages: stageCount(p), baselines: false, ...fixed });
	const { stages } = placeStages(p.pipeline_schedule, placeOptionsOf(config), 'parallel.pipeline_schedule');
	const replicas = replicasOf(p);
	const balanced = () =>
		partitionChain({ layerMs: layerMs(profile.backbones[0]!), stages: stages.length, replicas: stages.map(({ rank }) => replicas[rank]!) });
	const cuts =
		wanted ??
		balanced()
			.stages.slice(1)
			.map(({ from }) => from);
	const draft = draftPlan(profile, cluster, t.batch_size, [cuts], { ...fixed, chunks: chunksOf(p), replicas });
	return simulatePlan(draft, profile, cluster, options.effort);
}
