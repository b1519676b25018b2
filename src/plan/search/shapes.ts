/** @file Which shapes are worth a look for a job: every division of the devices into pipelines, ranks and micro-batches within documented limits. */
import { deviceCountOf } from '../cluster/links.ts';
import type { WarmUp } from '../schedules/types.ts';
import type { Job } from './job.ts';
import type { Shape } from './shape.ts';
import type { SearchOptions } from './types.ts';

/**
 * Devices of one pipeline at most. More would gain nothing but finer shares of replicas: a pipeline whose replica counts have a common factor is that
 * many pipelines side by side.
 */
export const mostDevices = 16;
/** Pipelines of this many devices at most divide them unequally over ranks: on one host, and where more hosts repeat the pipeline anyway. */
export const mostUnequalDevices = { oneHost: 8, more: 4 } as const;
const mostMicroBatches = 64;

/** Base shapes: 1F1B, linear, pipelines side by side, nothing recomputed, or what the options fix. Variants of good ones come from `variantsOf`. */
export function baseShapes(job: Job, options: SearchOptions): Shape[] {
	const total = deviceCountOf(job.cluster);
	const backbones = job.profile.backbones.length;
	const fewest = Math.min(...job.profile.backbones.map((b) => b.layers.length));
	const schedule = options.schedule ?? (backbones > 1 ? 'bidirectional' : '1f1b');
	const placement = options.placement ?? 'linear';
	const chunks = placement === 'folded' ? 2 : schedule === 'interleaved-1f1b' ? 2 : 1;
	const unequal = job.cluster.hosts === 1 ? mostUnequalDevices.oneHost : mostUnequalDevices.more;
	const shapes: Shape[] = [];
	for (const pipelines of divisors(total)) {
		if ((options.pipelines ?? pipelines) !== pipelines || job.batch % pipelines !== 0) continue;
		const devices = total / pipelines;
		if (devices > mostDevices && options.pipelines === undefined && options.stages === undefined) continue;
		for (let ranks = 1; ranks <= devices; ranks++) {
			const stages = ranks * chunks;
			if (stages < (options.minStages ?? 1)) continue;
			if (options.stages === undefined ? stages > fewest : stages !== options.stages) continue;
			if (ranks === 1 && options.stages === undefined && chunks > 1) continue;
			if (ranks < devices && devices > unequal && (options.stages === undefined || devices % ranks !== 0)) continue;
			for (const microBatches of microBatchChoices(job.batch / pipelines, ranks, options.microBatches)) {
				shapes.push({
					schedule,
					warmup: options.warmup ?? 'usual',
					placement,
					layout: options.layout ?? 'pipelines',
					recompute: options.recompute ?? false,
					pipelines,
					devices,
					ranks,
					chunks,
					microBatches,
				});
			}
		}
	}
	return shapes;
}

/** The same pipeline under other schedules, warm-ups, placements and layouts, as far as the options leave them open. */
export function variantsOf(shape: Shape, job: Job, options: SearchOptions): Shape[] {
	const { backbones } = job.profile;
	const hops = shape.ranks > 1;
	const warmups: readonly WarmUp[] = options.warmup === undefined && hops ? ['usual', 'deep'] : [shape.warmup];
	const variants: Shape[] = [];
	const layouts =
		options.layout === undefined && job.cluster.hosts > 1 && shape.pipelines > 1 && hops
			? (['pipelines', 'copies'] as const)
			: [shape.layout];
	for (const layout of layouts) {
		const base = { ...shape, layout };
		if (options.schedule !== undefined || backbones.length > 1) {
			for (const warmup of warmups) variants.push({ ...base, warmup });
			continue;
		}
		for (const warmup of warmups) variants.push({ ...base, schedule: '1f1b', warmup });
		if (hops && shape.microBatches > 1) variants.push({ ...base, schedule: 'zero-bubble' }, { ...base, schedule: 'gpipe' });
		if (hops && options.stages === undefined && shape.microBatches % shape.ranks === 0)
			variants.push({ ...base, schedule: 'interleaved-1f1b', chunks: 2 });
		if (hops && options.stages === undefined && options.placement === undefined && backbones.some((b) => (b.skips ?? []).length > 0))
			variants.push({ ...base, placement: 'folded', chunks: 2 });
	}
	return variants;
}

function microBatchChoices(samples: number, ranks: number, wanted: number | undefined): number[] {
	if (wanted !== undefined) return samples % wanted === 0 ? [wanted] : [];
	const most = Math.min(mostMicroBatches, samples, 8 * ranks);
	const all = divisors(samples).filter((m) => m <= most);
	// Neighbours less than 1.4 times apart tell nothing new.
	const chosen: number[] = [];
	for (const m of all) if (chosen.length === 0 || m >= 1.4 * chosen.at(-1)!) chosen.push(m);
	return chosen;
}

/** Ascending. */
export function divisors(n: number): number[] {
	const low: number[] = [];
	const high: number[] = [];
	for (let d = 1; d * d <= n; d++) {
		if (n % d !== 0) continue;
		low.push(d);
		if (d * d !== n) high.unshift(n / d);
	}
	return [...low, ...high];
}
