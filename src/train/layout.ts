/** @file How a config lays its stages over devices. */
import type { PlaceOptions } from '../plan/schedules/types.ts';
import type { TrainConfig } from './config.ts';

type Parallel = Pick<
	TrainConfig['parallel'],
	'pipeline_stages' | 'data_parallel' | 'pipeline_schedule' | 'placement' | 'virtual_pipeline_model_parallel_size' | 'replicas'
>;

/** Devices of each rank of a pipeline. */
export function replicasOf({ replicas, pipeline_stages }: Pick<Parallel, 'replicas' | 'pipeline_stages'>): readonly number[] {
	return replicas ?? new Array<number>(pipeline_stages).fill(1);
}

/** Devices of one pipeline. */
export function devicesPerPipeline(parallel: Pick<Parallel, 'replicas' | 'pipeline_stages'>): number {
	return replicasOf(parallel).reduce((a, b) => a + b, 0);
}

/** Stages on each rank. */
export function chunksOf({ pipeline_schedule, placement, virtual_pipeline_model_parallel_size: virtual }: Parallel): number {
	if (pipeline_schedule === 'interleaved-1f1b') return virtual ?? 2;
	return placement === 'folded' ? 2 : 1;
}

/** Stages that the chain is cut into. */
export function stageCount(parallel: Parallel): number {
	return parallel.pipeline_stages * chunksOf(parallel);
}

/** What the schedule of a run is made from. Nothing measured is among it, so that a run that is taken up again has the rows that it had. */
export function placeOptionsOf({ parallel, train }: Pick<TrainConfig, 'parallel' | 'train'>): PlaceOptions {
	return {
		ranks: parallel.pipeline_stages,
		microBatches: train.gradient_accumulation_steps,
		placement: parallel.placement,
		backbones: 1,
		...(parallel.pipeline_schedule === 'interleaved-1f1b' ? { chunks: chunksOf(parallel) } : {}),
	};
}
