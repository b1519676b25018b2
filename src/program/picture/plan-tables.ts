/** @file A search's answer in words and tables, the same for terminals and pages: what was chosen, its stages, the alternatives, the baselines. */
import { formatBytes, formatMs, formatShare } from '../../core/units.ts';
import { kindName, plainIterationMs } from '../../plan/expected.ts';
import type { SearchResult, SearchRow } from '../../plan/search/types.ts';
import type { Plan } from '../../plan/types.ts';

/** A table as data: columns by name, cells as text. */
export interface Table {
	readonly heading: string;
	readonly columns: readonly string[];
	/** Columns of numbers, from 0. */
	readonly right: readonly number[];
	readonly rows: readonly TableRow[];
}

export interface TableRow {
	readonly cells: readonly string[];
	/** The one that was chosen. */
	readonly chosen?: boolean;
	/** Time of this row over that of the slowest finite one, 0 to 1, for a bar; absent where there is none. */
	readonly share?: number;
}

/** A figure with its name, for the head of a page or the lines of a terminal. */
export interface Figure {
	readonly name: string;
	readonly value: string;
	readonly note?: string;
}

/** One line: `2 pipelines of 4 stages x 2 devices, 8 micro-batches, 1f1b (deep warm-up)`. */
export function planHeadline(plan: Plan): string {
	const stages = plan.stages.filter((stage) => stage.backbone === plan.stages[0]?.backbone);
	const replicas = replicasText(stages.map((stage) => stage.replicas));
	const pipelines = plan.pipelines === 1 ? 'one pipeline' : `${plan.pipelines} pipelines`;
	const parts = [
		`${pipelines} of ${stages.length} ${stages.length === 1 ? 'stage' : 'stages'}${replicas === '1' ? '' : ` on ${replicas} devices each`}`,
		`${plan.microBatches} micro-${plan.microBatches === 1 ? 'batch' : 'batches'}`,
		scheduleText(plan),
	];
	return parts.join(', ');
}

/** The figures a decision rests on. */
export function planFigures({ plan, fill }: Pick<SearchResult, 'plan' | 'fill'>): Figure[] {
	const { bubbleRatio, iterationMs, lowerBoundMs, pipelineMs, frozenMs } = plan;
	const gap = lowerBoundMs > 0 ? iterationMs / lowerBoundMs - 1 : 0;
	const frozen = frozenMs > 0 ? ` and ${formatMs(frozenMs)} of frozen work before it` : '';
	return [
		{ name: 'iteration', value: formatMs(iterationMs), note: `pipeline ${formatMs(pipelineMs)}${frozen}` },
		...kindFigures(plan),
		{ name: 'images/s', value: plan.imagesPerSecond.toFixed(1), note: `batch ${plan.batch} on ${plan.devices} devices` },
		{
			name: 'bubble',
			value: `${formatShare(bubbleRatio.unfilled)} to ${formatShare(bubbleRatio.filled)}`,
			note: plan.fill.length > 0 ? `${plan.fill.length} frozen layers filled in (${fill.method})` : 'no frozen work is filled in',
		},
		{ name: 'lower bound', value: formatMs(lowerBoundMs), note: `the plan is ${formatShare(gap)} above it` },
		{ name: 'memory', value: formatBytes(Math.max(0, ...plan.peakBytes)), note: 'on the device that needs most' },
	];
}

/** Both kinds of iteration of a job with self-conditioning, whose other figures are expectations. */
function kindFigures(plan: Plan): Figure[] {
	const swept = plan.selfConditioning;
	if (!swept) return [];
	const share = (probability: number) => `${formatShare(probability)} of the iterations`;
	const plain = { name: kindName(false), value: formatMs(plainIterationMs(plan)), note: share(1 - swept.probability) };
	return [
		...(swept.probability < 1 ? [plain] : []),
		{ name: kindName(true), value: formatMs(swept.iterationMs), note: share(swept.probability) },
	];
}

/** What each stage holds and costs. */
export function stageTable({ stages }: Plan): Table {
	const backbones = new Set(stages.map((stage) => stage.backbone)).size;
	return {
		heading: 'Stages',
		columns: ['stage', ...(backbones > 1 ? ['backbone'] : []), 'rank', 'layers', 'devices', 'forward', 'backward', 'sum of gradients'],
		right: (backbones > 1 ? [0, 2, 5, 6, 7] : [0, 1, 4, 5, 6]) as number[],
		rows: stages.map(({ backbone, rank, layers, devices, forwardMs, backwardMs, syncMs }, i) => ({
			cells: [
				String(i),
				...(backbones > 1 ? [backbone] : []),
				String(rank),
				rangeText(layers),
				devicesText(devices),
				formatMs(forwardMs),
				formatMs(backwardMs),
				formatMs(syncMs),
			],
		})),
	};
}

/** What was looked at, best first. */
export function alternativesTable({ rows, plan }: Pick<SearchResult, 'rows' | 'plan'>): Table {
	const share = shares(rows);
	return {
		heading: 'Alternatives',
		columns: [
			'pipelines',
			'stages',
			'devices/stage',
			'micro-batches',
			'schedule',
			'iteration',
			'images/s',
			'bubble',
			'filled',
			'memory',
			'bound',
		],
		right: [0, 1, 3, 5, 6, 7, 8, 9, 10],
		rows: rows.map((row, i) => ({
			cells: [
				String(row.pipelines),
				String(row.stages),
				replicasText(row.replicas),
				String(row.microBatches),
				scheduleText(row),
				formatMs(row.iterationMs),
				row.imagesPerSecond.toFixed(1),
				formatShare(row.unfilled),
				formatShare(row.filled),
				formatBytes(row.peakBytes),
				formatMs(row.lowerBoundMs),
			],
			share: share[i]!,
			...(i === 0 && isPlan(row, plan) ? { chosen: true } : {}),
		})),
	};
}

/** Other ways of training the same job, with their time relative to the plan's. */
export function baselineTable({ baselines, plan }: Pick<SearchResult, 'baselines' | 'plan'>): Table {
	const all = [{ iterationMs: plan.iterationMs }, ...baselines.filter((b) => b.fits)];
	const share = shares(all);
	const fitting = new Map(baselines.filter((b) => b.fits).map((b, i) => [b, share[i + 1]!]));
	return {
		heading: 'Other ways of training the same job',
		columns: ['way', 'iteration', 'images/s', 'relative', 'memory', 'how'],
		right: [1, 2, 3, 4],
		rows: [
			{
				cells: [
					'this plan',
					formatMs(plan.iterationMs),
					plan.imagesPerSecond.toFixed(1),
					'1.00 x',
					formatBytes(Math.max(0, ...plan.peakBytes)),
					planHeadline(plan),
				],
				share: share[0]!,
				chosen: true,
			},
			...baselines.map((baseline) => {
				const { name, iterationMs, imagesPerSecond, peakBytes, fits, detail } = baseline;
				return {
					cells: fits
						? [
								name,
								formatMs(iterationMs),
								imagesPerSecond.toFixed(1),
								`${(iterationMs / plan.iterationMs).toFixed(2)} x`,
								formatBytes(peakBytes),
								detail,
							]
						: [name, 'does not fit', '', '', formatBytes(peakBytes), detail],
					...(fits ? { share: fitting.get(baseline)! } : {}),
				};
			}),
		],
	};
}

/** Says so where another way is predicted to be faster than the plan. */
export function fasterWays({ baselines, plan }: Pick<SearchResult, 'baselines' | 'plan'>): string[] {
	const faster = baselines.filter(({ fits, iterationMs }) => fits && iterationMs < plan.iterationMs * (1 - 1e-6));
	if (faster.length === 0) return [];
	const gains = faster.map(({ name, iterationMs }) => `${name} by ${formatShare(1 - iterationMs / plan.iterationMs)}`);
	return [`Predicted to take less than this plan: ${gains.join(', ')}.`];
}

/** `1f1b (deep warm-up, folded, recomputed)`. */
export function scheduleText({
	schedule,
	warmup,
	placement,
	layout,
	recompute,
}: Pick<SearchRow, 'schedule' | 'warmup' | 'placement' | 'layout' | 'recompute'>): string {
	const marks = [
		...(warmup === 'deep' ? ['deep warm-up'] : []),
		...(placement === 'folded' ? ['folded'] : []),
		...(layout === 'copies' ? ['copies side by side'] : []),
		...(recompute ? ['recomputed'] : []),
	];
	return marks.length === 0 ? schedule : `${schedule} (${marks.join(', ')})`;
}

function isPlan(row: SearchRow, plan: Plan): boolean {
	return (
		row.schedule === plan.schedule && row.pipelines === plan.pipelines && row.microBatches === plan.microBatches && row.ranks === plan.ranks
	);
}

function shares(rows: readonly { readonly iterationMs: number }[]): number[] {
	const slowest = Math.max(0, ...rows.map((row) => row.iterationMs).filter(Number.isFinite));
	return rows.map(({ iterationMs }) => (slowest > 0 ? Math.min(1, iterationMs / slowest) : 0));
}

/** `2`, or `3+2+2` where they differ. */
function replicasText(replicas: readonly number[]): string {
	return new Set(replicas).size > 1 ? replicas.join('+') : String(replicas[0] ?? 0);
}

/** `0-6`, or `6` alone, for layers [0, 7). */
export function rangeText([from, to]: readonly [number, number]): string {
	return to - from === 1 ? String(from) : `${from}-${to - 1}`;
}

/** `0-3, 8-11`: numbers in runs. */
export function devicesText(devices: readonly number[]): string {
	const sorted = [...devices].sort((a, b) => a - b);
	const runs: [number, number][] = [];
	for (const device of sorted) {
		const last = runs.at(-1);
		if (last && device === last[1]) last[1]++;
		else runs.push([device, device + 1]);
	}
	return runs.map(rangeText).join(', ');
}
