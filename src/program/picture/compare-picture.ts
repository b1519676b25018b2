/** @file A plan's prediction above what was measured: as an SVG, and as a page with the tables of both. */
import type { FrozenComponent } from '../../plan/profile/types.ts';
import type { SearchResult } from '../../plan/search/types.ts';
import type { Comparison } from '../compare.ts';
import type { StepRecord } from '../step-record.ts';
import type { Timeline } from '../timeline.ts';
import { comparisonFigures, comparisonTables, memoryTable } from './compare-tables.ts';
import { timelinePage } from './html.ts';
import { firstOfSeveral, planPanels, titleOf } from './plan-picture.ts';
import { planHeadline, stageTable } from './plan-tables.ts';
import { timelineSvg } from './svg.ts';

/** What is compared. */
export interface Compared {
	readonly answer: Pick<SearchResult, 'plan' | 'timeline' | 'fill'>;
	readonly frozen: readonly FrozenComponent[];
	readonly comparison: Comparison;
	/** The devices of the prediction, named as it names them. */
	readonly measured: Timeline;
	readonly record: StepRecord;
}

/** Both timelines below each other, at one scale of time. */
export function compareSvg(compared: Compared): string {
	const { answer, frozen, measured } = compared;
	return timelineSvg(planPanels(answer, { frozen, measured }), { title: titleOf(answer), lines: linesOf(compared) });
}

/** The same with where the time went and what was held, as one page. */
export function comparePage(compared: Compared): string {
	const { answer, frozen, measured, comparison, record } = compared;
	return timelinePage({
		title: titleOf(answer),
		lines: [planHeadline(answer.plan), ...firstOfSeveral(answer)],
		figures: comparisonFigures(comparison, record),
		panels: planPanels(answer, { frozen, measured }),
		tables: [...comparisonTables(comparison), ...(record.memory.length > 0 ? [memoryTable(record.memory)] : []), stageTable(answer.plan)],
	});
}

function linesOf({ answer, comparison, record }: Compared): string[] {
	const figures = comparisonFigures(comparison, record).map(({ name, value }) => `${name} ${value}`);
	return [planHeadline(answer.plan), figures.join('; '), ...firstOfSeveral(answer)];
}
