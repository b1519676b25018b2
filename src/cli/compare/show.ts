/** @file Prediction and measurement as terminals show them, and as other programs read them. */
import { type Comparison, type Pair, relativeDifference } from '../../program/compare.ts';
import type { Compared } from '../../program/picture/compare-picture.ts';
import { comparisonFigures, comparisonTables, memoryTable } from '../../program/picture/compare-tables.ts';
import { planHeadline } from '../../program/picture/plan-tables.ts';
import { planTimeline } from '../../program/plan-timeline.ts';
import { renderTimelines, timelineColumns } from '../../program/timeline-text.ts';
import { formatTable } from '../format.ts';
import { type Screen, tableLines } from '../plan/show.ts';
import { wantsColour } from '../style.ts';

/** Figures, both timelines at one scale, and the tables. */
export function compareLines({ answer, frozen, comparison, measured, record }: Compared, { output, env, style }: Screen): string[] {
	const figures = formatTable(comparisonFigures(comparison, record).map(({ name, value, note }) => [`  ${name}`, value, note ?? '']));
	const timelines = [
		{ name: style.dim('predicted'), timeline: planTimeline(answer, frozen) },
		{ name: style.dim('measured'), timeline: measured },
	];
	const longest = Math.max(...answer.plan.stages.flatMap(({ devices }) => devices.map((device) => `device ${device}`.length)));
	const text = renderTimelines(timelines, timelineColumns(output.columns ?? 100, longest), { colour: wantsColour(output, env) });
	return [
		style.bold(planHeadline(answer.plan)),
		...figures,
		'',
		style.bold('Timelines'),
		...text.trimEnd().split('\n'),
		'',
		...comparisonTables(comparison).flatMap((table) => tableLines(table, style)),
		...(record.memory.length > 0 ? tableLines(memoryTable(record.memory), style) : []),
	];
}

/** Everything as plain data: times in ms, `difference` measured less predicted, `relative` that over the prediction. */
export function compareDocument({ comparison, record }: Pick<Compared, 'comparison' | 'record'>): unknown {
	const { iterationMs, bubble, total, devices }: Comparison = comparison;
	return {
		step: record.step,
		stepMs: record.stepMs,
		iterationMs: withDifference(iterationMs),
		bubble: withDifference(bubble),
		kinds: total.map(({ kind, ...pair }) => ({ kind, ...withDifference(pair) })),
		devices: devices.map(({ device, kinds }) => ({ device, kinds: kinds.map(({ kind, ...pair }) => ({ kind, ...withDifference(pair) })) })),
		memory: record.memory.map(({ device, fixedBytes, predictedBytes, measuredBytes }) => ({
			device,
			fixedBytes,
			...(measuredBytes === undefined
				? { predicted: predictedBytes }
				: withDifference({ predicted: predictedBytes, measured: measuredBytes })),
		})),
	};
}

function withDifference(pair: Pair): Pair & { readonly difference: number; readonly relative?: number } {
	const relative = relativeDifference(pair);
	const { predicted, measured } = pair;
	return { predicted, measured, difference: measured - predicted, ...(relative === undefined ? {} : { relative }) };
}
