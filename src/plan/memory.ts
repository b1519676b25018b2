/** @file How much each rank of a plan's pipeline holds when: weights and optimiser state all the time, activations from forward to backward. */
import { backboneCosts } from './partition/costs.ts';
import type { PipelineStage, PipelineTimeline } from './pipeline/types.ts';
import type { Profile } from './profile/types.ts';
import type { Plan } from './types.ts';

/** From `ms` on, `bytes` are held. */
export interface MemoryStep {
	readonly ms: number;
	readonly bytes: number;
}

/** What stages hold, as `simulatePipeline` counts it. */
type StageBytes = Pick<PipelineStage, 'rank' | 'savedBytes' | 'staticBytes'>;

/**
 * Rank by rank the bytes held over the iteration: the first step at 0, then one wherever it changes. A stage saves from the start of F to the end of B or
 * W; the most of each rank is the timeline's `peakBytes`. `offsetMs`: when the pipeline starts.
 */
export function memoryOverTime(
	stages: readonly StageBytes[],
	{ spans }: PipelineTimeline,
	offsetMs = 0,
): readonly (readonly MemoryStep[])[] {
	return spans.map((row, rank) => {
		let bytes = stages.reduce((sum, stage) => sum + (stage.rank === rank ? stage.staticBytes : 0), 0);
		const steps: MemoryStep[] = [{ ms: 0, bytes }];
		const change = (at: number, by: number) => {
			if (by === 0) return;
			const ms = at + offsetMs;
			bytes += by;
			const last = steps.at(-1)!;
			if (last.ms === ms) steps[steps.length - 1] = { ms, bytes };
			else steps.push({ ms, bytes });
		};
		for (const { kind, stage, start, end } of row) {
			const saved = stages[stage]!.savedBytes;
			if (kind === 'F') change(start, saved);
			else if (kind === 'B' || kind === 'W') change(end, -saved);
		}
		return steps;
	});
}

/** What each stage of `plan` holds on a device with the layers of `profile`: the plan's own stages, in its order. */
export function planStageBytes(plan: Plan, profile: Profile): StageBytes[] {
	const costs = new Map(profile.backbones.map((backbone) => [backbone.name, backboneCosts(profile, backbone, plan.recompute)]));
	return plan.stages.map(({ backbone, layers: [from, to], rank, replicas }) => {
		const local = plan.batch / (plan.pipelines * plan.microBatches * replicas);
		const { savedBytes, staticBytes } = costs.get(backbone)!.range(from, to, local);
		return { rank, savedBytes, staticBytes };
	});
}
