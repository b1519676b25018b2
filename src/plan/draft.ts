/** @file A plan as far as a person can say it: where the backbones are cut and what runs them. Its times are for `simulatePlan` to find. */
import { DiffusionPipeError } from '../core/errors.ts';
import { deviceCountOf } from './cluster/links.ts';
import type { Cluster } from './cluster/types.ts';
import type { Profile } from './profile/types.ts';
import type { SearchOptions } from './search/types.ts';
import type { Plan, PlanStage } from './types.ts';

export interface DraftOptions extends SearchOptions {
	readonly microBatches: number;
	/** Stages of a backbone on each rank where they are interleaved; 2 unless given. */
	readonly chunks?: number;
	/** Devices of each rank; equally many unless given. */
	readonly replicas?: readonly number[];
}

/** Stages of one backbone on each rank: two where the chain is folded, two or more where it is interleaved. */
function chunksOf(schedule: string, placement: string, interleaved: number): number {
	if (placement === 'folded') return 2;
	return schedule === 'interleaved-1f1b' ? interleaved : 1;
}

/**
 * The plan that cuts backbone b before the layers `cuts[b]`, on all devices of `cluster`, every stage on equally many or on `replicas`. `options` say the rest: one
 * pipeline, 1F1B (bidirectional for two backbones), nothing recomputed, frozen work filled in, unless they say otherwise. Every time in it is 0. Throws a
 * usage error naming the option when cuts are no layers, or stages, devices and batch do not part evenly.
 */
export function draftPlan(
	profile: Profile,
	cluster: Cluster,
	batch: number,
	cuts: readonly (readonly number[])[],
	options: DraftOptions,
): Plan {
	const { backbones } = profile;
	const refuse = (place: string, what: string, expected: string, found: string | number): never => {
		throw new DiffusionPipeError('usage', what, { place, expected, found: String(found) });
	};
	const { microBatches, pipelines = 1, warmup = 'usual', placement = 'linear', layout = 'pipelines', recompute = false } = options;
	const schedule = options.schedule ?? (backbones.length > 1 ? 'bidirectional' : '1f1b');
	if (cuts.length !== backbones.length) refuse('split', 'has another number of backbones', `${backbones.length}`, cuts.length);
	const bounds = backbones.map(({ name, layers }, b) => {
		cuts[b]!.forEach((cut, i) => {
			const least = (cuts[b]![i - 1] ?? 0) + 1;
			if (!Number.isSafeInteger(cut) || cut < least || cut >= layers.length)
				refuse('split', `is no cut of ${name}`, `ascending numbers from 1 to ${layers.length - 1}`, cuts[b]!.join(','));
		});
		return [0, ...cuts[b]!, layers.length];
	});
	const stages = bounds[0]!.length - 1;
	if (bounds.some((each) => each.length - 1 !== stages))
		refuse('split', 'gives the backbones different numbers of stages', `${stages} each`, bounds.map((b) => b.length - 1).join(' and '));
	if (options.stages !== undefined && options.stages !== stages)
		refuse('stages', 'is not what the split gives', String(stages), options.stages);
	const chunks = chunksOf(schedule, placement, options.chunks ?? 2);
	const ranks = stages / chunks;
	if (!Number.isInteger(ranks))
		refuse(
			'split',
			`gives ${chunks === 2 ? 'an odd number of stages' : `${stages} stages`}, and ${schedule} (${placement}) has ${chunks} on a rank`,
			`a multiple of ${chunks} stages`,
			`${stages} stages`,
		);
	const devices = deviceCountOf(cluster);
	const each = devices / (pipelines * ranks);
	if (!options.replicas && !Number.isInteger(each))
		refuse('devices', 'cannot be divided so', `a multiple of ${pipelines * ranks} (pipelines x ranks)`, devices);
	const replicas = options.replicas ?? new Array<number>(ranks).fill(each);
	if (replicas.length !== ranks || pipelines * replicas.reduce((a, b) => a + b, 0) !== devices)
		refuse('replicas', 'do not add up', `${ranks} numbers, ${devices / pipelines} devices in all`, replicas.join(' + '));
	const unit = pipelines * microBatches;
	if (batch % unit !== 0) refuse('batch', 'is not divisible', `a multiple of ${unit} (pipelines x micro-batches)`, batch);
	const rankOf = (backbone: number, i: number) => {
		if (backbone === 1) return ranks - 1 - (i % ranks);
		return placement === 'folded' ? Math.min(i, stages - 1 - i) : i % ranks;
	};
	return {
		version: 1,
		profile: profile.name,
		batch,
		devices,
		pipelines,
		ranks,
		microBatches,
		schedule,
		warmup,
		placement,
		layout,
		recompute,
		stages: bounds.flatMap((own, b) =>
			own.slice(1).map((to, i): PlanStage => {
				const rank = rankOf(b, i);
				return {
					backbone: backbones[b]!.name,
					layers: [own[i]!, to],
					devices: [],
					rank,
					replicas: replicas[rank]!,
					forwardMs: 0,
					backwardMs: 0,
					syncMs: 0,
				};
			}),
		),
		iterationMs: 0,
		lowerBoundMs: 0,
		pipelineMs: 0,
		// What tells frozen work before the pipeline from frozen work within it.
		frozenMs: options.fill === false ? 1 : 0,
		imagesPerSecond: 0,
		bubbleRatio: { unfilled: 0, filled: 0 },
		peakBytes: [],
		fill: [],
		moves: [],
		rows: [],
		baselines: [],
	};
}
