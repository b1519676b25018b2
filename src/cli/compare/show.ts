/** @file Prediction and measurement as terminals show them, and as other programs read them. */
import { type Comparison, type Pair, relativeDifference } from '../../program/compare.ts';
import { type Compared, expectedMs, figuresOf, kindSuffix } from '../../program/picture/compare-picture.ts';
import { comparisonTables, memoryTable } from '../../program/picture/compare-tables.ts';
import { planHeadline } from '../../program/picture/plan-tables.ts';
import { planTimeline } from '../../program/plan-timeline.ts';
import { renderTimelines, timelineColumns } from '../../program/timeline-text.ts';
import { formatTable } from '../format.ts';
import { type Screen, tableLines } from '../plan/show.ts';
import { wantsColour } from '../style.ts';

/** Figures, timelines of one or both kinds of iteration at one scale, and the tables. */
export function compareLines(all: readonly Compared[], { output, env, style }: Screen): string[] {
	const { answer } = all[0]!;
	const figures = formatTable(figuresOf(all).map(({ name, value, note }) => [`  ${name}`, value, note ?? '']));
	const timelines = all.flatMap((each) => [
		{ name: style.dim(`predicted${kindSuffix(each)}`), timeline: planTimeline(each.answer, each.frozen) },
		{ name: style.dim(`measured${kindSuffix(each)}`), timeline: each.measured },
	]);
	const longest = Math.max(...answer.plan.stages.flatMap(({ devices }) => devices.map((device) => `device ${device}`.length)));
	const text = renderTimelines(timelines, timelineColumns(output.columns ?? 100, longest), { colour: wantsColour(output, env) });
	return [
		style.bold(planHeadline(answer.plan)),
		...figures,
		'',
		style.bold('Timelines'),
		...text.trimEnd().split('\n'),
		'',
		...all.flatMap((each) => {
			const { comparison, record } = each;
			const tables = [...comparisonTables(comparison), ...(record.memory.length > 0 ? [memoryTable(record.memory)] : [])];
			return tables.flatMap((table) => tableLines({ ...table, heading: `${table.heading}${kindSuffix(each)}` }, style));
		}),
	];
}

/**
 * Everything as plain data: times in ms, `difference` measured less predicted, `relative` that over the prediction. Where steps of both kinds were measured,
 * `selfConditioning` has that with a sweep ahead and what is expected of both.
 */
export function compareDocument(all: readonly Compared[]): unknown {
	const [first, ...others] = all.map(({ swept, ...each }) => ({ ...(swept ? { swept } : {}), ...kindDocument(each) }));
	const both = expectedMs(all);
	if (!both) return first;
	const { probability, ...ms } = both;
	return { ...first, selfConditioning: { probability, expectedMs: withDifference(ms), ...others[0] } };
}

function kindDocument({ comparison, record }: Pick<Compared, 'comparison' | 'record'>): Readonly<Record<string, unknown>> {
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
