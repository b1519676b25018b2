/** @file A plan's prediction above what was measured: as an SVG, and as a page with the tables of both. */
import { formatBytes, formatShare } from '../../core/units.ts';
import { kindName } from '../../plan/expected.ts';
import type { FrozenComponent } from '../../plan/profile/types.ts';
import type { PlanAnswer } from '../../plan/search/types.ts';
import type { Comparison, Pair } from '../compare.ts';
import type { StepRecord } from '../step-record.ts';
import { busyShares, type Timeline } from '../timeline.ts';
import type { DeviceId } from '../types.ts';
import { comparisonFigures, comparisonTables, expectationFigure, memoryTable } from './compare-tables.ts';
import { timelinePage } from './html.ts';
import { firstOfSeveral, planPanels, titleOf } from './plan-picture.ts';
import { type Figure, planHeadline, stageTable } from './plan-tables.ts';
import { type Panel, timelineSvg } from './svg.ts';

/** What is compared: a measured step with what is predicted of steps of its kind. */
export interface Compared {
	/** Of a step with a sweep ahead. */
	readonly swept: boolean;
	readonly answer: Omit<PlanAnswer, 'sweep'>;
	readonly frozen: readonly FrozenComponent[];
	readonly comparison: Comparison;
	/** The devices of the prediction, named as it names them. */
	readonly measured: Timeline;
	readonly record: StepRecord;
}

/** Timelines of one or both kinds of iteration below each other, at one scale of time; `all` has at least one. */
export function compareSvg(all: readonly Compared[]): string {
	const { answer } = all[0]!;
	const figures = figuresOf(all).map(({ name, value }) => `${name} ${value}`);
	return timelineSvg(panelsOf(all), {
		title: titleOf(answer),
		lines: [planHeadline(answer.plan), figures.join('; '), ...firstOfSeveral(answer)],
	});
}

/** The same with where the time went and what was held, as one page. */
export function comparePage(all: readonly Compared[]): string {
	const { answer } = all[0]!;
	return timelinePage({
		title: titleOf(answer),
		lines: [planHeadline(answer.plan), ...firstOfSeveral(answer)],
		figures: figuresOf(all),
		panels: panelsOf(all),
		tables: [
			...all.flatMap((each) => {
				const { comparison, record } = each;
				const tables = [...comparisonTables(comparison), ...(record.memory.length > 0 ? [memoryTable(record.memory)] : [])];
				return tables.map((table) => ({ ...table, heading: `${table.heading}${kindSuffix(each)}` }));
			}),
			stageTable(answer.plan),
		],
	});
}

/** After names of what belongs to one kind of iteration, where there are two. */
export function kindSuffix({ swept, answer }: Pick<Compared, 'swept' | 'answer'>): string {
	return answer.plan.selfConditioning ? ` ${kindName(swept)}` : '';
}

/** The figures of each kind of iteration, and of what is expected of both. */
export function figuresOf(all: readonly Compared[]): Figure[] {
	const each = all.flatMap((compared) =>
		comparisonFigures(compared.comparison, compared.record).map((figure) => ({ ...figure, name: `${figure.name}${kindSuffix(compared)}` })),
	);
	const both = expectedMs(all);
	if (!both) return each;
	const { probability, ...ms } = both;
	return [{ ...expectationFigure(ms), note: `${formatShare(probability)} of the iterations ${kindName(true)}` }, ...each];
}

/** An iteration as expected of both kinds at the plan's probability, from a step of each; undefined where one is missing. */
export function expectedMs(all: readonly Compared[]): (Pair & { readonly probability: number }) | undefined {
	const [plain, swept] = [false, true].map((kind) => all.find((each) => each.swept === kind)?.comparison.iterationMs);
	const probability = all[0]?.answer.plan.selfConditioning?.probability;
	if (!plain || !swept || probability === undefined) return undefined;
	const weigh = (of: keyof Pair) => (1 - probability) * plain[of] + probability * swept[of];
	return { predicted: weigh('predicted'), measured: weigh('measured'), probability };
}

function panelsOf(all: readonly Compared[]): Panel[] {
	return all.flatMap((each) => kindPanels(each).map((panel) => ({ ...panel, name: `${panel.name}${kindSuffix(each)}` })));
}

/** Beside each row, how busy the device is and the most it holds, as the record has it. */
function kindPanels({ answer, frozen, measured, record }: Compared): Panel[] {
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
