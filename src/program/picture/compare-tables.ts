/** @file Predicted and measured in tables, the same for terminals and pages. */
import { formatBytes, formatMs, formatShare } from '../../core/units.ts';
import { type Comparison, type KindTime, type Pair, relativeDifference } from '../compare.ts';
import type { DeviceMemory, StepRecord } from '../step-record.ts';
import type { Figure, Table, TableRow } from './plan-tables.ts';

const columns = ['predicted', 'measured', 'difference', ''];

/** `+1.2 ms`, or `-1.2 ms`. */
function signed(value: number, format: (size: number) => string): string {
	return `${value < 0 ? '-' : '+'}${format(Math.abs(value))}`;
}

function relative(pair: Pair): string {
	const share = relativeDifference(pair);
	if (share === undefined) return '';
	// Thousands of percent say less than how many times it was.
	return share < 10 ? signed(share, formatShare) : `${Math.round(1 + share)} times`;
}

function timeCells({ kind, ...pair }: KindTime): string[] {
	return [kind, formatMs(pair.predicted), formatMs(pair.measured), signed(pair.measured - pair.predicted, formatMs), relative(pair)];
}

/** What is expected of an iteration, whatever its kind. */
export function expectationFigure(ms: Pair): Figure {
	return { name: 'expected iteration', value: `${formatMs(ms.predicted)} predicted, ${formatMs(ms.measured)} measured` };
}

/** The figures of the whole iteration. */
export function comparisonFigures({ iterationMs, bubble }: Comparison, record: Pick<StepRecord, 'step' | 'stepMs'> | undefined): Figure[] {
	return [
		{
			name: 'iteration',
			value: `${formatMs(iterationMs.predicted)} predicted, ${formatMs(iterationMs.measured)} measured`,
			note: `${relative(iterationMs)}${record ? `; step ${record.step} took ${formatMs(record.stepMs)} with what goes on around the devices` : ''}`,
		},
		{
			name: 'bubble',
			value: `${formatShare(bubble.predicted)} predicted, ${formatShare(bubble.measured)} measured`,
			note: 'share of the devices’ time in which they wait',
		},
	];
}

/** Where the time of all devices went, then of each alone. */
export function comparisonTables({ total, devices }: Comparison): Table[] {
	const table = (heading: string, kinds: readonly KindTime[]): Table => ({
		heading,
		columns: ['work', ...columns],
		right: [1, 2, 3, 4],
		rows: kinds.map((kind): TableRow => ({ cells: timeCells(kind) })),
	});
	const each = devices.length > 1 ? devices.map(({ device, kinds }) => table(`Device ${device}`, kinds)) : [];
	return [table(devices.length > 1 ? 'All devices' : 'Device', total), ...each];
}

/** The most that each device held; without rows where the record has none. */
export function memoryTable(memory: readonly DeviceMemory[]): Table {
	return {
		heading: 'Peak memory',
		columns: ['device', ...columns, 'of that weights and optimiser'],
		right: [0, 1, 2, 3, 4, 5],
		rows: memory.map(({ device, predictedBytes, measuredBytes, fixedBytes }): TableRow => {
			const pair = measuredBytes === undefined ? undefined : { predicted: predictedBytes, measured: measuredBytes };
			const both = pair ? [formatBytes(pair.measured), signed(pair.measured - pair.predicted, formatBytes), relative(pair)] : ['?', '', ''];
			return { cells: [String(device), formatBytes(predictedBytes), ...both, formatBytes(fixedBytes)] };
		}),
	};
}
