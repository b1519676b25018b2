/** @file Search results made by hand: a pipeline simulated from its stages' costs, idle time filled first come, first served. */
import type { FillItem } from '../../src/plan/fill/types.ts';
import { simulatePipeline } from '../../src/plan/pipeline/simulate.ts';
import type { PipelineStage } from '../../src/plan/pipeline/types.ts';
import { schedules } from '../../src/plan/schedules/index.ts';
import { formatSchedule } from '../../src/plan/schedules/text.ts';
import type { SearchResult, SearchRow } from '../../src/plan/search/types.ts';
import type { Baseline, Plan } from '../../src/plan/types.ts';

export interface SampleOptions {
	readonly stages?: number;
	readonly microBatches?: number;
	readonly replicas?: number;
	readonly pipelines?: number;
	readonly schedule?: string;
	/** Layers of the frozen component, ms each; empty: none. */
	readonly frozen?: readonly number[];
	/** Frozen work before the pipeline, ms, in place of filling. */
	readonly frozenMs?: number;
	readonly syncMs?: number;
	readonly component?: string;
	readonly backbone?: string;
}

/** Four stages of four layers, eight micro-batches, and an encoder in their idle time. */
export function sampleResult(options: SampleOptions = {}): SearchResult {
	const { stages: count = 4, microBatches = 8, replicas = 1, pipelines = 1, schedule = '1f1b', syncMs = 6, frozenMs = 0 } = options;
	const { frozen = [3, 3, 4, 2, 5, 3], component = 'vae', backbone = 'unet' } = options;
	const stages: PipelineStage[] = Array.from({ length: count }, (_, i) => ({
		rank: i,
		...(i + 1 < count ? { next: i + 1 } : {}),
		forwardMs: 10 + i,
		backwardInputMs: 10 + i,
		backwardWeightMs: 9,
		hopForwardMs: i + 1 < count ? 1.5 : 0,
		hopBackwardMs: i + 1 < count ? 1.5 : 0,
		savedBytes: 2e9,
		syncMs,
		updateMs: 2,
		staticBytes: 10e9,
	}));
	const rows = schedules[schedule]!({ stages: count, microBatches });
	const timeline = simulatePipeline({ ranks: count, stages, rows });
	const items: FillItem[] = [];
	if (frozenMs === 0) {
		// Every device encodes its own samples: each layer goes into the first gap that takes it.
		timeline.spans.forEach((spans, rank) => {
			for (let replica = 0; replica < replicas; replica++) {
				const device = rank * replicas + replica;
				let [at, next] = [0, 0];
				frozen.forEach((ms, layer) => {
					while (next < spans.length && Math.min(spans[next]!.start, timeline.endMs) - at < ms) at = spans[next++]!.end;
					items.push({ device, startMs: at, endMs: at + ms, component, layer, samples: [4 * device, 4 * device + 4] });
					at += ms;
				});
			}
		});
	}
	const iterationMs = Math.max(timeline.endMs, ...items.map((i) => i.endMs)) + frozenMs;
	const devices = count * replicas * pipelines;
	const batch = 4 * devices * microBatches;
	const busy = timeline.spans.flat().reduce((sum, { start, end }) => sum + end - start, 0);
	const filledMs = items.reduce((sum, { startMs, endMs }) => sum + endMs - startMs, 0) / replicas;
	const bubbleRatio = {
		unfilled: 1 - busy / (count * timeline.endMs),
		filled: 1 - (busy + filledMs + count * frozenMs) / (count * iterationMs),
	};
	const baselines: Baseline[] = [
		{
			name: 'data parallel',
			iterationMs: 1.3 * iterationMs,
			imagesPerSecond: (1000 * batch) / (1.3 * iterationMs),
			peakBytes: 60e9,
			fits: true,
			detail: 'one sum of all gradients',
		},
		{
			name: 'data parallel, no recomputation',
			iterationMs: Number.POSITIVE_INFINITY,
			imagesPerSecond: 0,
			peakBytes: 131e9,
			fits: false,
			detail: '131 GB of 80 GB',
		},
	];
	const plan: Plan = {
		version: 1,
		profile: 'sample',
		batch,
		devices,
		pipelines,
		ranks: count,
		microBatches,
		schedule,
		warmup: 'usual',
		placement: 'linear',
		layout: 'pipelines',
		recompute: false,
		stages: stages.map((stage, i) => ({
			backbone,
			layers: [4 * i, 4 * i + 4],
			devices: Array.from({ length: pipelines }, (_, p) =>
				Array.from({ length: replicas }, (_, r) => (p * count + i) * replicas + r),
			).flat(),
			rank: i,
			replicas,
			forwardMs: stage.forwardMs,
			backwardMs: stage.backwardInputMs + stage.backwardWeightMs,
			syncMs,
		})),
		iterationMs,
		lowerBoundMs: 0.95 * iterationMs,
		pipelineMs: timeline.endMs,
		frozenMs,
		imagesPerSecond: (1000 * batch) / iterationMs,
		bubbleRatio,
		peakBytes: timeline.peakBytes.flatMap((bytes) => new Array<number>(replicas).fill(bytes)),
		fill: items,
		moves: [],
		rows: formatSchedule(rows).trimEnd().split('\n'),
		baselines,
	};
	const row: SearchRow = {
		...{
			ranks: count,
			stages: count,
			pipelines,
			microBatches,
			schedule,
			warmup: 'usual',
			placement: 'linear',
			layout: 'pipelines',
			recompute: false,
		},
		...{ replicas: new Array<number>(count).fill(replicas), iterationMs, imagesPerSecond: plan.imagesPerSecond },
		...{
			unfilled: bubbleRatio.unfilled,
			filled: bubbleRatio.filled,
			peakBytes: Math.max(...plan.peakBytes),
			lowerBoundMs: plan.lowerBoundMs,
		},
	};
	const other: SearchRow = {
		...row,
		schedule: 'gpipe',
		iterationMs: 1.12 * iterationMs,
		imagesPerSecond: row.imagesPerSecond / 1.12,
		recompute: true,
		warmup: 'deep',
	};
	return {
		plan,
		timeline,
		fill: { items, moves: [], iterationMs, lowerBoundMs: plan.lowerBoundMs, method: 'first fit' },
		rows: [row, other],
		baselines,
	};
}
