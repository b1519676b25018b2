/** @file A plan as terminals show it: what was chosen, the alternatives, other ways of training, the timeline. */
import { kindName, kindsPredicted } from '../../plan/expected.ts';
import type { MemoryStep } from '../../plan/memory.ts';
import type { FrozenComponent } from '../../plan/profile/types.ts';
import type { PlanAnswer, SearchResult } from '../../plan/search/types.ts';
import { renderMemory } from '../../program/memory-text.ts';
import { escapeControls } from '../../program/picture/escape.ts';
import {
	alternativesTable,
	baselineTable,
	devicesText,
	fasterWays,
	planFigures,
	planHeadline,
	stageTable,
	type Table,
} from '../../program/picture/plan-tables.ts';
import { pipelineDevices, planTimeline } from '../../program/plan-timeline.ts';
import { extentOf } from '../../program/timeline.ts';
import { renderTimelines, timelineColumns } from '../../program/timeline-text.ts';
import type { Output } from '../command.ts';
import { formatTable } from '../format.ts';
import { type Style, wantsColour } from '../style.ts';

/** Where lines go, and how they may look. */
export interface Screen {
	readonly output: Output;
	readonly env: Readonly<Record<string, string | undefined>>;
	readonly style: Style;
}

/** Everything a search answers. */
export function searchLines(result: SearchResult, frozen: readonly FrozenComponent[], screen: Screen): string[] {
	return [
		...planLines(result, screen),
		...tableLines(alternativesTable(result), screen.style),
		...(result.baselines.length > 0
			? [...tableLines(baselineTable(result), screen.style), ...noteLines(fasterWays(result), screen.style)]
			: []),
		...timelineLines(result, frozen, screen),
	];
}

function noteLines(lines: readonly string[], style: Style): string[] {
	return lines.length > 0 ? [...lines.map((line) => style.yellow(escapeControls(line))), ''] : [];
}

/** What was chosen, with its figures and stages. */
export function planLines(answer: PlanAnswer, { style }: Screen): string[] {
	const { plan } = answer;
	const figures = formatTable(planFigures(answer).map(({ name, value, note }) => [`  ${name}`, value, note ?? '']));
	return [style.bold(planHeadline(plan)), ...figures, '', ...tableLines(stageTable(plan), style)];
}

/** A table with its heading; the chosen row is marked. */
export function tableLines({ heading, columns, right, rows }: Table, style: Style): string[] {
	const cells = rows.map((row) => [row.chosen ? '*' : ' ', ...row.cells.map(escapeControls)]);
	const [head = '', ...body] = formatTable(
		[['', ...columns], ...cells],
		right.map((i) => i + 1),
	);
	return [style.bold(heading), style.dim(head), ...body.map((line, i) => (rows[i]!.chosen ? style.green(line) : line)), ''];
}

/** The timeline (of each kind of iteration) as wide as the terminal, a hundred characters where there is none. */
export function timelineLines(answer: PlanAnswer, frozen: readonly FrozenComponent[], { output, env, style }: Screen): string[] {
	const { labels, longest } = rowLabels(answer);
	const kinds = kindsPredicted(answer);
	const timelines = kinds.map((kind) => ({
		name: kinds.length > 1 ? style.dim(kindName(kind.swept)) : '',
		timeline: planTimeline(kind, frozen),
	}));
	const text = renderTimelines(timelines, timelineColumns(output.columns ?? 100, longest), {
		colour: wantsColour(output, env),
		label: (device) => labels.get(device) ?? `device ${device}`,
	});
	const { pipelines } = answer.plan;
	const heading = pipelines > 1 ? `Timeline (the first of ${pipelines} equal pipelines)` : 'Timeline';
	return [style.bold(heading), ...text.trimEnd().split('\n')];
}

/** What each rank holds over the iteration, of what its devices have, below the timeline's columns. */
export function memoryLines(
	answer: PlanAnswer,
	memory: readonly (readonly MemoryStep[])[],
	limitBytes: number,
	{ output, style }: Screen,
): string[] {
	const devices = pipelineDevices(answer.plan);
	const { longest } = rowLabels(answer);
	const rows = memory.map((steps, rank) => {
		const own = devices.filter((d) => d.rank === rank).map((d) => d.device);
		return { label: `rank ${rank} (${devicesText(own)})`.padEnd(longest), steps };
	});
	const { end } = extentOf(planTimeline(answer));
	const text = renderMemory(rows, end, limitBytes, timelineColumns(output.columns ?? 100, longest));
	return [style.bold('Memory (devices)'), ...text.trimEnd().split('\n')];
}

function rowLabels({ plan }: PlanAnswer): { readonly labels: ReadonlyMap<number, string>; readonly longest: number } {
	const labels = new Map(
		pipelineDevices(plan).map(({ device, stages }) => [
			device,
			`device ${device}, ${stages.length > 1 ? 'stages' : 'stage'} ${stages.join(' ')}`,
		]),
	);
	return { labels, longest: Math.max(0, ...[...labels.values()].map((label) => label.length)) };
}
