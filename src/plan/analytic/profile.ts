/** @file Profiles from work and an accelerator's numbers, where nothing can be measured. */
import type { Cluster } from '../cluster/types.ts';
import type { Profile, TrainedLayer } from '../profile/types.ts';
import type { Accelerator } from './accelerators.ts';
import { elementBytes, type Precision } from './precision.ts';
import { workMs } from './roofline.ts';
import type { JobWork, PassWork } from './work.ts';

export interface AnalyticProfileOptions {
	/** Ascending. Default 1, 2, 4, ... 64. */
	readonly batchSizes?: readonly number[];
	/** Default `mixed`. */
	readonly precision?: Precision;
	/** Probability of the extra forward sweep of every backbone; default 0. */
	readonly selfConditioning?: number;
}

/** Batch sizes of profiles unless told otherwise. */
export const defaultBatchSizes: readonly number[] = [1, 2, 4, 8, 16, 32, 64];

/** The profile of `job` on `accelerator` by the roofline. */
export function profileOf(job: JobWork, accelerator: Accelerator, options: AnalyticProfileOptions = {}): Profile {
	const { batchSizes = defaultBatchSizes, precision = 'mixed', selfConditioning = 0 } = options;
	const bytes = elementBytes[precision];
	const times = (work: PassWork) => batchSizes.map((samples) => round(workMs(work, samples, accelerator, precision)));
	const updateMs = (parameters: number) =>
		(1000 * parameters * bytes.update) / (accelerator.memoryBandwidth * accelerator.efficiency.memory);
	return {
		version: 1,
		name: `${job.name} on ${accelerator.name}`,
		batchSizes,
		backbones: job.backbones.map(({ name, layers, skips }) => ({
			name,
			selfConditioning,
			layers: layers.map(
				(layer): TrainedLayer => ({
					name: layer.name,
					forwardMs: times(layer.forward),
					backwardInputMs: times(layer.backwardInput),
					backwardWeightMs: times(layer.backwardWeight),
					cutBytes: layer.cutElements * bytes.element,
					activationBytes: layer.savedElements * bytes.element,
					paramBytes: layer.parameters * bytes.element,
					gradBytes: layer.trainedParameters * bytes.gradient,
					optimizerBytes: layer.trainedParameters * bytes.optimizer,
					updateMs: round(updateMs(layer.trainedParameters)),
				}),
			),
			skips: skips.map(({ from, to, elements }) => ({ from, to, bytes: elements * bytes.element })),
		})),
		frozen: job.frozen.map(({ name, after, layers }) => ({
			name,
			after,
			layers: layers.map((layer) => ({
				name: layer.name,
				forwardMs: times(layer.forward),
				outputBytes: layer.outputElements * bytes.element,
				paramBytes: layer.parameters * bytes.element,
			})),
		})),
	};
}

/** Nanoseconds are more than a roofline knows. */
function round(ms: number): number {
	return Math.round(ms * 1e6) / 1e6;
}

export interface ClusterOptions {
	/** Share of the links' published rates that transfers reach; default 0.8. */
	readonly linkEfficiency?: number;
}

/** `hosts` hosts of `devicesPerHost` accelerators, joined by a network of `interGbps` Gbit/s per host (each way). */
export function clusterOf(
	accelerator: Accelerator,
	hosts: number,
	devicesPerHost: number,
	interGbps: number,
	{ linkEfficiency = 0.8 }: ClusterOptions = {},
): Cluster {
	const { link, memoryBytes } = accelerator;
	return {
		version: 1,
		hosts,
		devicesPerHost,
		memoryBytes,
		intra: { latencyMs: link.latencyMs, bytesPerMs: link.bytesPerMs * linkEfficiency },
		inter: { latencyMs: 0.03, bytesPerMs: ((interGbps * 1e9) / 8 / 1000) * linkEfficiency },
	};
}
