/** @file Everything about a plan but where its backbones are cut. */
import type { WarmUp } from '../schedules/types.ts';
import type { Layout, Placement } from '../types.ts';

export interface Shape {
	/** Name as in the table of schedules. */
	readonly schedule: string;
	readonly warmup: WarmUp;
	readonly placement: Placement;
	readonly layout: Layout;
	readonly recompute: boolean;
	/** Copies of the pipeline. */
	readonly pipelines: number;
	/** Devices of one pipeline. */
	readonly devices: number;
	/** Places in the pipeline; each is one device or several that share a micro-batch. */
	readonly ranks: number;
	/** Stages per rank and backbone: 2 when folded, more when interleaved. */
	readonly chunks: number;
	readonly microBatches: number;
}

/** How the layers of each backbone and the devices are divided. */
export interface Assignment {
	/** Per backbone: 0, where each further stage begins, and the number of layers. */
	readonly bounds: readonly (readonly number[])[];
	/** Devices per rank. */
	readonly replicas: readonly number[];
}

/** Stages of each backbone. */
export function stagesOf({ ranks, chunks }: Shape): number {
	return ranks * chunks;
}

/** Samples of one micro-batch in one pipeline. */
export function microBatchOf({ pipelines, microBatches }: Shape, batch: number): number {
	return batch / (pipelines * microBatches);
}

/** For people: `1f1b (deep), 4 stages x 2 pipelines, 8 micro-batches`. */
export function describeShape(shape: Shape): string {
	const parts = [
		`${shape.schedule}${shape.warmup === 'deep' ? ' (deep)' : ''}`,
		`${stagesOf(shape)} stages x ${shape.pipelines} pipelines`,
	];
	parts.push(`${shape.microBatches} micro-batches`);
	if (shape.placement === 'folded') parts.push('folded');
	if (shape.recompute) parts.push('recomputed');
	return parts.join(', ');
}
