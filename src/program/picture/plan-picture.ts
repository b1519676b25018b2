/** @file A search's answer as pictures: the timeline with stages beside its rows, and the page that holds everything a decision needs. */
import { formatBytes } from '../../core/units.ts';
import { kindName, kindsPredicted } from '../../plan/expected.ts';
import type { FrozenComponent } from '../../plan/profile/types.ts';
import type { PlanAnswer, SearchResult } from '../../plan/search/types.ts';
import type { Plan } from '../../plan/types.ts';
import { type PipelineDevice, pipelineDevices, planTimeline } from '../plan-timeline.ts';
import { busyShares, type Timeline } from '../timeline.ts';
import type { DeviceId } from '../types.ts';
import { timelinePage } from './html.ts';
import { alternativesTable, baselineTable, fasterWays, planFigures, planHeadline, rangeText, stageTable } from './plan-tables.ts';
import { type Panel, timelineSvg } from './svg.ts';

/** What pictures of a plan show beside it. */
export interface PlanPictureOptions {
	/** The profile's, for the names of layers. */
	readonly frozen?: readonly FrozenComponent[];
	/** A measured iteration of the same devices, drawn below the prediction. */
	readonly measured?: Timeline;
	readonly width?: number;
}

/** The timeline of the first pipeline's devices, as an SVG. */
export function planSvg(answer: PlanAnswer, options: PlanPictureOptions = {}): string {
	const { plan } = answer;
	const figures = planFigures(answer).map(({ name, value }) => `${name} ${value}`);
	return timelineSvg(planPanels(answer, options), {
		title: titleOf(answer),
		lines: [planHeadline(plan), figures.join(', '), ...firstOfSeveral(answer)],
		...(options.width === undefined ? {} : { width: options.width }),
	});
}

/** Figures, timeline, stages, alternatives and other ways of training, as one page. */
export function planPage(result: SearchResult, options: PlanPictureOptions = {}): string {
	const { plan } = result;
	return timelinePage({
		title: titleOf(result),
		lines: [planHeadline(plan), ...fasterWays(result), ...firstOfSeveral(result)],
		figures: planFigures(result),
		panels: planPanels(result, options),
		tables: [
			...(result.rows.length > 0 ? [alternativesTable(result)] : []),
			...(result.baselines.length > 0 ? [baselineTable(result)] : []),
			stageTable(plan),
		],
		texts: {
			'Rows of the schedule, one per rank': plan.rows.join('\n'),
			...(plan.selfConditioning ? { [`Rows ${kindName(true)}`]: plan.selfConditioning.rows.join('\n') } : {}),
		},
	});
}

/** What was planned, in a few words. */
export function titleOf({ plan }: Pick<PlanAnswer, 'plan'>): string {
	return `${plan.profile || 'Plan'}: batch ${plan.batch} on ${plan.devices} ${plan.devices === 1 ? 'device' : 'devices'}`;
}

/** What the timeline leaves out, as a line or none. */
export function firstOfSeveral({ plan }: Pick<PlanAnswer, 'plan'>): string[] {
	return plan.pipelines > 1 ? [`The timeline shows the first of ${plan.pipelines} equal pipelines.`] : [];
}

/** `stage 1, layers 4-7` for each device's row. */
function stageLabel({ stages }: PipelineDevice, plan: Plan): string {
	const ranges = stages.map((i) => rangeText(plan.stages[i]!.layers));
	return `${stages.length > 1 ? 'stages' : 'stage'} ${stages.join(' and ')}, layers ${ranges.join(' and ')}`;
}

/** The prediction (of each kind of iteration), and the measurement below it where there is one. */
export function planPanels(answer: PlanAnswer, { frozen = [], measured }: PlanPictureOptions): Panel[] {
	const { plan } = answer;
	const devices = pipelineDevices(plan);
	const label = (id: DeviceId) => {
		const device = devices.find((d) => d.device === id);
		return device ? [`device ${id}`, stageLabel(device, plan)] : [`device ${id}`];
	};
	const noteOf = (shown: Timeline) => (id: DeviceId) => {
		const at = shown.devices.findIndex(({ device }) => device === id);
		const bytes = plan.peakBytes[devices.findIndex((d) => d.device === id)];
		return [`${Math.round(100 * busyShares(shown)[at]!)} % busy`, ...(bytes === undefined ? [] : [formatBytes(bytes)])];
	};
	const kinds = kindsPredicted(answer);
	return [
		...kinds.map((kind) => {
			const timeline = planTimeline(kind, frozen);
			const alone = measured ? 'predicted' : '';
			return { name: kinds.length > 1 ? kindName(kind.swept) : alone, timeline, label, note: noteOf(timeline) };
		}),
		...(measured ? [{ name: 'measured', timeline: measured, label }] : []),
	];
}
