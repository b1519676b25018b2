/** @file A plan's prediction above what was measured: as an SVG, and as a page with the tables of both. */
import { formatBytes } from '../../core/units.ts';
import type { FrozenComponent } from '../../plan/profile/types.ts';
import type { SearchResult } from '../../plan/search/types.ts';
import type { Comparison } from '../compare.ts';
import type { StepRecord } from '../step-record.ts';
import { busyShares, type Timeline } from '../timeline.ts';
import type { DeviceId } from '../types.ts';
import { comparisonFigures, comparisonTables, memoryTable } from './compare-tables.ts';
import { timelinePage } from './html.ts';
import { firstOfSeveral, planPanels, titleOf } from './plan-picture.ts';
import { planHeadline, stageTable } from './plan-tables.ts';
import { type Panel, timelineSvg } from './svg.ts';

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
	const { answer } = compared;
	return timelineSvg(panelsOf(compared), { title: titleOf(answer), lines: linesOf(compared) });
}

/** The same with where the time went and what was held, as one page. */
export function comparePage(compared: Compared): string {
	const { answer, comparison, record } = compared;
	return timelinePage({
		title: titleOf(answer),
		lines: [planHeadline(answer.plan), ...firstOfSeveral(answer)],
		figures: comparisonFigures(comparison, record),
		panels: panelsOf(compared),
		tables: [...comparisonTables(comparison), ...(record.memory.length > 0 ? [memoryTable(record.memory)] : []), stageTable(answer.plan)],
	});
}

/** Beside each row, how busy the device is and the most it holds, as the record has it. */
function panelsOf({ answer, frozen, measured, record }: Compared): Panel[] {
	const memory = new Map(record.memory.map((each) => [each.device, each]));
	return planPanels(answer, { frozen, measured }).map((panel, i): Panel => {
		const shares = busyShares(panel.timeline);
		const note = (id: DeviceId) => {
			const at = panel.timeline.devices.findIndex(({ device }) => device === id);
			const bytes = memory.get(id)?.[i === 0 ? 'predictedBytes' : 'measuredBytes'];
			return [`${Math.round(100 * shares[at]!)} % busy`, ...(bytes === undefined ? [] : [formatBytes(bytes)])];
		};
		return { ...panel, note };
	});
}

function linesOf({ answer, comparison, record }: Compared): string[] {
	const figures = comparisonFigures(comparison, record).map(({ name, value }) => `${name} ${value}`);
	return [planHeadline(answer.plan), figures.join('; '), ...firstOfSeveral(answer)];
}
