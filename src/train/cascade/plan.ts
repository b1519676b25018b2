/** @file Lays both models of a cascade over devices: measures every layer, searches cuts, order and filling together, lowers and verifies one program. */
import { availableParallelism } from 'node:os';
import { DiffusionPipeError } from '../../core/errors.ts';
import { measureProfile } from '../../engine/local/profile.ts';
import type { Recompute } from '../../graph/saved.ts';
import { type Chain, traceChain } from '../../nn/chain.ts';
import type { Cluster } from '../../plan/cluster/types.ts';
import { draftPlan } from '../../plan/draft.ts';
import { partitionChain } from '../../plan/partition/chain.ts';
import type { PipelineTimeline } from '../../plan/pipeline/types.ts';
import { layerMs } from '../../plan/profile/times.ts';
import type { Profile } from '../../plan/profile/types.ts';
import { placeSchedule } from '../../plan/schedules/index.ts';
import { searchPlan } from '../../plan/search/index.ts';
import { simulatePlan, walkPlan } from '../../plan/search/simulate-plan.ts';
import type { SearchResult } from '../../plan/search/types.ts';
import { adamwHyperSize } from '../../program/adamw.ts';
import { type FilledProgram, lowerFilled } from '../../program/fill/lower.ts';
import { plannedStarts } from '../../program/fill/starts.ts';
import type { FrozenPart } from '../../program/fill/types.ts';
import { type CompiledPipelines, lowerPipelines, lowerPlan, stageRanges } from '../../program/lower.ts';
import { verifyProgram } from '../../program/verify.ts';
import type { RunParts } from '../filled/parts.ts';
import { inlineItems } from '../filled/plan.ts';
import { placeOptionsOf, replicasOf } from '../layout.ts';
import { deviceCount, microBatchSize } from '../plan.ts';
import { localCluster, type Planned, withPeaks } from '../planned.ts';
import { firstThatFits, type SettledConfig } from '../recompute.ts';
import type { SessionConfig, TrainingSession } from '../session.ts';
import { backboneNames, type PerBackbone, perBackbone } from './config.ts';
import { fits, fixedCuts, knownProfile, sizesOf } from './known.ts';

/** The program of a cascade with what is known of its stages. */
export interface CascadePlan {
	/** The banks of `base`'s stages, then those of the other; in a filled run with the frozen work in the program. */
	readonly compiled: CompiledPipelines & Partial<Pick<FilledProgram, 'frozenBanks'>>;
	readonly cuts: PerBackbone<readonly number[]>;
	/** Layers and measured times of every stage (0 where nothing was measured), down the devices for the base, then for the other. */
	readonly stages: TrainingSession['plan']['stages'];
	/** What the backward computes again. */
	readonly recompute: Recompute;
	/** What it was made from and what that predicts; absent when nothing was measured. */
	readonly planned?: Planned & Pick<SearchResult, 'timeline'>;
}

/** What a cascade is laid out from. */
export interface CascadePlanOptions {
	/** Buffers of each parameter beside its values: 2, or 3 with a moving average. */
	readonly moments: number;
	/** Frozen parts to run in the bubbles. */
	readonly parts?: RunParts | undefined;
	/** Of the run resumed: its plan, taken as it is where it is one of this layout, or else its profile; and its cuts, kept where nothing is to be filled. */
	readonly known?: { readonly planned: Planned | undefined; readonly cuts: PerBackbone<readonly number[]> } | undefined;
	/** Hears that layers are going to be measured. */
	readonly onMeasure?: (layers: number) => void;
}

/** The configs of both, in whose layout it is settled what the backward computes again. */
type Settled = PerBackbone<SessionConfig> & { readonly base: SettledConfig };

/**
 * Compiles both chains (one output, `loss`, each) for the ranks of `config.base`, in opposite directions. Throws a config error when there are more stages than
 * layers, an input or program error when memory does not suffice.
 */
export async function planCascade(
	chains: PerBackbone<Chain>,
	config: PerBackbone<SessionConfig>,
	options: CascadePlanOptions,
): Promise<CascadePlan> {
	const { parallel: p } = config.base;
	const { parts, known } = options;
	checkStages(chains, p.pipeline_stages);
	const settle = (of: (settled: Settled) => CascadePlan) => firstThatFits(config.base, (base) => of({ ...config, base }));
	const found = known?.planned && fits(known.planned, chains, config, parts, known.cuts) ? known.planned : undefined;
	if (found)
		return settle((each) => compiledPlan(chains, each, { ...found, ...walkPlan(found.plan, found.profile, found.cluster) }, options));
	const cuts = fixedCuts(config, known?.cuts);
	const old = known?.planned && knownProfile(known.planned.profile, chains, config.base, parts);
	if (cuts && !parts && !old) return settle((each) => unplanned(chains, each, cuts, options));
	if (!old) options.onMeasure?.(layerCount(chains, parts));
	const profile = old ?? (await measureCascade(chains, config.base, parts, options.moments > 2));
	const cluster = localCluster(deviceCount(config.base), p.memory_bytes);
	// Where bubbles are to be filled, cuts that nobody asked for may not be the best.
	const kept = parts && p.partition_method !== 'manual' ? undefined : cuts;
	return settle((each) => compiledPlan(chains, each, { profile, cluster, ...searched(each.base, profile, cluster, kept) }, options));
}

function checkStages(chains: PerBackbone<Chain>, stages: number): void {
	for (const name of backboneNames) {
		const { length } = chains[name].layers;
		if (stages <= length) continue;
		throw new DiffusionPipeError('config', `there are more stages than layers of ${name}`, {
			place: 'parallel.pipeline_stages',
			expected: `at most ${length}`,
			found: String(stages),
		});
	}
}

function layerCount(chains: PerBackbone<Chain>, parts: RunParts | undefined): number {
	const all = [...backboneNames.map((name) => chains[name]), ...(parts?.parts ?? []).map(({ chain }) => chain)];
	return all.reduce((n, { layers }) => n + layers.length, 0);
}

/** The profile of both chains, and of the frozen parts that are to be filled in, on as many threads as will compute side by side. */
function measureCascade(
	chains: PerBackbone<Chain>,
	config: SessionConfig,
	parts: RunParts | undefined,
	average: boolean,
): Promise<Profile> {
	const { parallel: p } = config;
	return measureProfile(
		{
			name: 'cascade',
			backbones: backboneNames.map((name) => ({ name, chain: chains[name], losses: ['loss'] })),
			frozen: (parts?.parts ?? []).map(({ name, chain }) => ({ name, chain })),
		},
		{
			batchSizes: sizesOf(config, parts),
			threads: p.threads_per_device,
			devices: Math.min(deviceCount(config), availableParallelism()),
			average,
		},
	);
}

type Answer = Pick<SearchResult, 'plan' | 'timeline'>;

/** The plan of `config`'s layout: cuts of both backbones searched together with the order of their work, or as they are given or follow from `replicas`. */
function searched(config: SessionConfig, profile: Profile, cluster: Cluster, kept: PerBackbone<readonly number[]> | undefined): Answer {
	const { parallel: p, train: t } = config;
	const fixed = {
		pipelines: p.data_parallel,
		microBatches: t.gradient_accumulation_steps,
		schedule: p.pipeline_schedule,
		warmup: 'usual',
		placement: 'linear',
		layout: 'pipelines',
		recompute: p.activation_checkpointing === 'full',
	} as const;
	if (!p.replicas && !kept) return searchPlan(profile, cluster, t.batch_size, { stages: p.pipeline_stages, baselines: false, ...fixed });
	const replicas = replicasOf(p);
	const byTime = profile.backbones.map((backbone, b) => {
		const { stages } = partitionChain({
			layerMs: layerMs(backbone),
			stages: p.pipeline_stages,
			replicas: b === 0 ? replicas : [...replicas].reverse(),
		});
		return stages.slice(1).map(({ from }) => from);
	});
	const cuts = kept ? backboneNames.map((name) => kept[name]) : byTime;
	return simulatePlan(draftPlan(profile, cluster, t.batch_size, cuts, { ...fixed, replicas }), profile, cluster);
}

/** Lowers a plan, with its frozen work in it. */
function compiledPlan(
	chains: PerBackbone<Chain>,
	config: Settled,
	planned: Planned & Answer,
	{ moments, parts }: CascadePlanOptions,
): CascadePlan {
	const { plan, profile, cluster, timeline } = planned;
	const training = lowerPlan(
		plan,
		backboneNames.map((name) => ({ chain: { ...chains[name], name } })),
		{ moments, hyperSize: adamwHyperSize, recompute: config.base.parallel.activation_checkpointing },
	);
	const compiled = parts ? { ...training, ...filled(training, planned, timeline, parts) } : training;
	verify(compiled, config.base);
	const own = (name: string) => plan.stages.filter(({ backbone }) => backbone === name);
	return {
		compiled,
		cuts: perBackbone((name) =>
			own(name)
				.slice(1)
				.map(({ layers }) => layers[0]),
		),
		stages: plan.stages.map(({ backbone, layers: [from, to], forwardMs, backwardMs }) => ({
			layers: layerNames(chains, backbone as 'base', from, to),
			ms: forwardMs + backwardMs,
		})),
		planned: { profile, cluster, plan: withPeaks(plan, compiled.program), timeline },
		recompute: config.base.parallel.activation_checkpointing,
	};
}

function filled(
	training: CompiledPipelines,
	{ plan, profile }: Planned,
	timeline: PipelineTimeline,
	{ parts, given }: RunParts,
): FilledProgram {
	const traced = parts.map(({ name, chain, takes }): FrozenPart => ({ name, trace: traceChain(chain, 1), takes }));
	return lowerFilled(training, {
		parts: traced,
		given,
		items: plan.fill.length > 0 ? plan.fill : inlineItems(profile, plan, timeline.endMs),
		starts: plannedStarts(training.program, plan, timeline),
	});
}

/** The program of cuts about which nothing was measured. */
function unplanned(
	chains: PerBackbone<Chain>,
	config: Settled,
	cuts: PerBackbone<readonly number[]>,
	{ moments }: CascadePlanOptions,
): CascadePlan {
	const { parallel: p, train: t } = config.base;
	const batch = microBatchSize(config.base);
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
	verify(compiled, config.base);
	const stages = backboneNames.flatMap((name) =>
		stageRanges(chains[name].layers.length, cuts[name]).map(([from, to]) => ({ layers: layerNames(chains, name, from, to), ms: 0 })),
	);
	return { compiled, cuts, stages, recompute: p.activation_checkpointing };
}

function layerNames(chains: PerBackbone<Chain>, name: (typeof backboneNames)[number], from: number, to: number): string[] {
	return chains[name].layers.slice(from, to).map((layer) => `${name}.${layer.name}`);
}

function verify({ program }: CompiledPipelines, { parallel: p }: SessionConfig): void {
	verifyProgram(program, p.memory_bytes > 0 ? { memoryBytes: p.memory_bytes } : {});
}
