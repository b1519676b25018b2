/** @file From a plan to programs: every schedule, placement and number of replicas that the planner knows. */
import { DiffusionPipeError } from '../../core/errors.ts';
import type { Recompute } from '../../graph/saved.ts';
import { type Chain, traceChain } from '../../nn/chain.ts';
import { placeStages } from '../../plan/schedules/index.ts';
import { parseSchedule } from '../../plan/schedules/text.ts';
import type { PlacedSchedule } from '../../plan/schedules/types.ts';
import type { Plan } from '../../plan/types.ts';
import type { TrainedBackbone } from './job.ts';
import { type CompiledPipelines, lowerPipelines } from './pipeline.ts';

/** A chain to be trained, whose outputs are losses, and how it is self-conditioned. */
export interface PlannedBackbone extends Pick<TrainedBackbone, 'selfConditioning'> {
	readonly chain: Chain;
}

/** What a plan does not say. */
export interface PlannedTraining {
	/** Moments the optimiser keeps per parameter. */
	readonly moments: number;
	/** Length of the hyperparameter vector. */
	readonly hyperSize: number;
	/** What is computed again where the plan does not recompute whole stages; `views` unless given. */
	readonly recompute?: Recompute;
}

/**
 * Compiles the training that `plan` lays out; `backbones` in the order of the profile's. Its filling is not in it yet. Throws a program error when the plan
 * has other backbones or its stages do not follow each other, and what `lowerPipelines` throws.
 */
export function lowerPlan(
	plan: Plan,
	backbones: readonly PlannedBackbone[],
	{ recompute = 'views', ...optimiser }: PlannedTraining,
): CompiledPipelines {
	const { pipelines, microBatches, batch, ranks } = plan;
	const names = [...new Set(plan.stages.map(({ backbone }) => backbone))];
	if (names.length !== backbones.length) refuse(plan, 'the plan has another number of backbones', `${backbones.length}`, names.join(', '));
	const microBatchSize = batch / (pipelines * microBatches);
	const swept = plan.selfConditioning;
	return lowerPipelines(
		names.map((name, b): TrainedBackbone => {
			const { chain, selfConditioning } = backbones[b]!;
			const own = plan.stages.filter(({ backbone }) => backbone === name);
			const isWhole = own.every(({ layers: [from] }, s) => from === (own[s - 1]?.layers[1] ?? 0));
			if (!isWhole || own.at(-1)!.layers[1] !== chain.layers.length) {
				const ranges = own.map(({ layers }) => `[${layers.join(', ')})`).join(' ');
				refuse(plan, `the stages are not those of ${chain.name}`, `ranges that join from 0 to ${chain.layers.length}`, ranges);
			}
			return {
				trace: traceChain(chain, microBatchSize),
				cuts: own.slice(1).map(({ layers }) => layers[0]),
				...(selfConditioning ? { selfConditioning } : {}),
			};
		}),
		{
			schedule: scheduleOf(plan, names.length, plan.rows, false),
			...(swept ? { sweptSchedule: scheduleOf(plan, names.length, swept.rows, true) } : {}),
			pipelines,
			replicas: Array.from({ length: ranks }, (_, rank) => plan.stages.find((stage) => stage.rank === rank)!.replicas),
			layout: plan.layout,
			microBatches,
			microBatchSize,
			recompute: plan.recompute ? 'full' : recompute,
			...optimiser,
		},
	);
}

/** The rows of a plan with the places of their stages. */
function scheduleOf(plan: Plan, backbones: number, rows: readonly string[], selfConditioning: boolean): PlacedSchedule {
	const { schedule, ranks, microBatches, placement, stages } = plan;
	const topology = placeStages(schedule, {
		ranks,
		microBatches,
		placement,
		...(schedule === 'interleaved-1f1b' ? { chunks: stages.length / (ranks * backbones) } : {}),
		backbones,
		selfConditioning,
	});
	return { ...topology, rows: parseSchedule(rows.map((row) => `${row}\n`).join('')) };
}

function refuse(plan: Plan, what: string, expected: string, found: string): never {
	throw new DiffusionPipeError('program', what, { place: `plan of ${plan.profile}`, expected, found });
}
