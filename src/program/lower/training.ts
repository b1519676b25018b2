/** @file Training of one chain, the usual case, by rows or a placed schedule. */
import type { Recompute } from '../../graph/saved.ts';
import type { ChainTrace } from '../../nn/chain.ts';
import { linear } from '../../plan/schedules/topology.ts';
import type { PlacedSchedule, Schedule } from '../../plan/schedules/types.ts';
import { type CompiledPipelines, lowerPipelines } from './pipeline.ts';

/** How a training step is laid over devices: copy c's rank r runs on device c * ranks + r. */
export interface TrainingLayout {
	/** First layer of each stage but the first. */
	readonly cuts: readonly number[];
	/** Copies of the whole pipeline, each on its share of the batch. */
	readonly replicas: number;
	readonly microBatches: number;
	/** Samples of one micro-batch. */
	readonly microBatchSize: number;
	/** Stages on ranks with their rows, or rows of one stage per rank. */
	readonly schedule: Schedule | PlacedSchedule;
	readonly recompute?: Recompute;
	/** Moments the optimiser keeps per parameter (AdamW 2, with EMA 3). */
	readonly moments: number;
	/** Length of the hyperparameter vector fed to `update`; 0: no update, the program only leaves the gradients in their banks. */
	readonly hyperSize: number;
}

/** Compiles a training step of `trace`, a chain whose outputs are losses, one device per rank. Throws what `lowerPipelines` throws. */
export function lowerTraining(trace: ChainTrace, { cuts, replicas, schedule, ...layout }: TrainingLayout): CompiledPipelines {
	const placed = 'rows' in schedule ? schedule : { ...linear(schedule.length), rows: schedule };
	return lowerPipelines([{ trace, cuts }], { ...layout, schedule: placed, pipelines: replicas });
}
