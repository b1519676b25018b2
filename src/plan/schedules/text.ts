/** @file Schedules as text: PyTorch's grammar for machines (one comma-separated row per rank), a grid of time slots for people. */
import { DiffusionPipeError } from '../../core/errors.ts';
import { slotsOf } from './slots.ts';
import type { Action, Schedule, StagePlace } from './types.ts';

/** `0F3`: stage, kind, micro-batch. */
export function formatAction({ stage, kind, micro }: Action): string {
	return `${stage}${kind}${micro}`;
}

const computeAction = /^(\d+)([FBIW])(\d+)$/;
const otherAction = /^\d+(UNSHARD|RESHARD|SEND_F|RECV_F|SEND_B|RECV_B|REDUCE_GRAD|OVERLAP_F_B)\d*$/;

/** Reads `0F3`; throws an input error that names `place`. */
export function parseAction(text: string, place = 'action'): Action {
	const match = computeAction.exec(text);
	if (!match) {
		throw new DiffusionPipeError('input', 'not a compute action', {
			place,
			expected: 'stage, then F, B, I or W, then micro-batch, such as 0F3',
			found: JSON.stringify(text),
			...(otherAction.test(text) ? { hint: 'the compute-only form of the schedule; transfers and sharding follow from it' } : {}),
		});
	}
	return { stage: Number(match[1]), kind: match[2] as Action['kind'], micro: Number(match[3]) };
}

/** One line per rank, actions separated by commas: the compute-only CSV that torch.distributed.pipelining loads. */
export function formatSchedule(schedule: Schedule): string {
	return schedule.map((row) => `${row.map(formatAction).join(',')}\n`).join('');
}

/**
 * Reads `formatSchedule`'s form, and what PyTorch writes: CRLF line ends and empty cells (idle slots, which carry no meaning: time follows from order).
 * Throws an input error naming rank and cell.
 */
export function parseSchedule(text: string): Schedule {
	if (text === '') return [];
	const lines = text.replace(/\r?\n$/, '').split(/\r?\n/);
	return lines.map((line, rank) =>
		line.split(',').flatMap((cell, i) => (cell.trim() === '' ? [] : [parseAction(cell.trim(), `schedule, rank ${rank}, cell ${i}`)])),
	);
}

/**
 * A grid for people: a row per rank, a column per time slot, each action in the earliest slot in which its inputs are there when every action takes one
 * slot and transfers none. `stages` says which stage follows which; one chain in the order of their numbers unless given. Throws what `slotsOf` throws.
 */
export function formatScheduleGrid(schedule: Schedule, stages?: readonly StagePlace[]): string {
	const slots = slotsOf(schedule, stages);
	const columns = Math.max(0, ...slots.map((row) => (row.at(-1) ?? -1) + 1));
	const cells = schedule.map((row, rank) => {
		const line = new Array<string>(columns).fill('');
		for (const [i, action] of row.entries()) line[slots[rank]![i]!] = formatAction(action);
		return line;
	});
	const width = Math.max(1, String(columns - 1).length, ...cells.flat().map((cell) => cell.length));
	const label = `rank ${schedule.length - 1}`.length;
	const line = (name: string, row: readonly string[]) => [name.padEnd(label), ...row.map((cell) => cell.padEnd(width))].join(' ').trimEnd();
	const header = line(
		'slot',
		Array.from({ length: columns }, (_, i) => String(i)),
	);
	return `${[header, ...cells.map((row, rank) => line(`rank ${rank}`, row))].join('\n')}\n`;
}
