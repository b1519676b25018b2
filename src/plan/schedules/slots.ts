/** @file In which time slot each action of a schedule falls when all actions take one slot and transfers take none. */
import { DiffusionPipeError } from '../../core/errors.ts';
import { linear, previousOf } from './topology.ts';
import type { Action, Schedule, StagePlace } from './types.ts';

/**
 * The earliest slot of each action, row by row, when each rank works through its row in order and an action waits for its inputs: F for the F of the
 * stage before, B and I for the stage's own F and for the B or I of the stage after, W for its I. `stages` says which stage follows which; one chain in
 * the order of their numbers unless given. Throws an input error naming what each rank waits for when the rows wait for each other.
 */
export function slotsOf(schedule: Schedule, stages: readonly StagePlace[] = chainOf(schedule)): readonly (readonly number[])[] {
	const previous = previousOf(stages);
	const slots: number[][] = schedule.map(() => []);
	const done = new Map<string, number>();
	let waiting = schedule.map((_, rank) => rank);
	for (let progress = true; progress; ) {
		progress = false;
		for (const rank of waiting) {
			const row = schedule[rank]!;
			const mine = slots[rank]!;
			for (let action = row[mine.length]; action; action = row[mine.length]) {
				const inputs = inputsOf(action, stages, previous);
				if (!inputs.every((key) => done.has(key))) break;
				const slot = 1 + Math.max(mine.at(-1) ?? -1, ...inputs.map((key) => done.get(key)!));
				done.set(resultOf(action), slot);
				mine.push(slot);
				progress = true;
			}
		}
		waiting = waiting.filter((rank) => slots[rank]!.length < schedule[rank]!.length);
	}
	if (waiting.length > 0) {
		const stuck = waiting.map((rank) => {
			const action = schedule[rank]![slots[rank]!.length]!;
			const missing = inputsOf(action, stages, previous).find((key) => !done.has(key))!;
			return `rank ${rank} at ${action.stage}${action.kind}${action.micro} waits for ${missing.replace('G', 'B')}`;
		});
		throw new DiffusionPipeError('input', 'the rows wait for each other', {
			place: 'schedule',
			expected: 'an order in which every action finds its inputs',
			found: stuck.join('; '),
		});
	}
	return slots;
}

function chainOf(schedule: Schedule): readonly StagePlace[] {
	return linear(schedule.flat().reduce((count, action) => Math.max(count, action.stage + 1), 1)).stages;
}

/** G stands for the gradient that B and I both hand to the stage before. */
function resultOf({ stage, kind, micro }: Action): string {
	return `${stage}${kind === 'B' || kind === 'I' ? 'G' : kind}${micro}`;
}

function inputsOf({ stage, kind, micro }: Action, stages: readonly StagePlace[], previous: Int32Array): string[] {
	if (kind === 'F') return previous[stage]! < 0 ? [] : [`${previous[stage]}F${micro}`];
	if (kind === 'W') return [`${stage}G${micro}`];
	const { next } = stages[stage]!;
	return [`${stage}F${micro}`, ...(next === undefined ? [] : [`${next}G${micro}`])];
}
