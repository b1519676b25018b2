/** @file Collectives: every device of a group enters the same ones in the same order. */
import { type Section, type Step, stepsOf } from '../order.ts';
import type { DeviceId, GroupId, Instruction, Program } from '../types.ts';
import { fault, faultAt } from './fault.ts';

interface Entry extends Step {
	readonly instruction: Extract<Instruction, { op: 'allReduce' | 'allGather' }>;
}

/**
 * Throws a program error at the first collective that differs from that of the group's first device: in operation, number of slots or axis, or, with
 * `names`, in slots that the first device gives to another collective of the group. Expects known groups.
 */
export function checkCollectives(program: Program, names: boolean): void {
	for (const [name, members] of Object.entries(program.groups)) {
		for (const section of ['prologue', 'iteration', 'epilogue'] as const) {
			const [first, ...others] = members.map((device) => entriesOf(program, device, name as GroupId, section));
			const slotLists = new Set(first!.map((entry) => slotsOf(entry)));
			others.forEach((entries, i) => {
				const where = { device: members[i + 1]!, against: members[0]!, section };
				compare(program, name, first!, entries, names ? slotLists : new Set(), where);
			});
		}
	}
}

function entriesOf(program: Program, device: DeviceId, group: GroupId, section: Section): Entry[] {
	return stepsOf(program.devices.find((d) => d.device === device)!, 1).flatMap((step) => {
		const { instruction } = step;
		const inGroup = (instruction.op === 'allReduce' || instruction.op === 'allGather') && instruction.group === group;
		return inGroup && step.section === section ? [{ ...step, instruction }] : [];
	});
}

function compare(
	program: Program,
	group: string,
	first: readonly Entry[],
	entries: readonly Entry[],
	slotLists: ReadonlySet<string>,
	{ device, against, section }: { device: DeviceId; against: DeviceId; section: Section },
): void {
	entries.slice(0, first.length).forEach((entry, k) => {
		const model = first[k]!;
		const renamed = slotsOf(entry) !== slotsOf(model) && slotLists.has(slotsOf(entry));
		if (kindOf(entry) === kindOf(model) && !renamed) return;
		throw faultAt(program, entry, `collective ${k} of group ${group} differs between its devices`, {
			expected: `${kindOf(model)} of ${slotsOf(model)}, as on device ${against}`,
			found: `${kindOf(entry)} of ${slotsOf(entry)}`,
		});
	});
	if (first.length === entries.length) return;
	const extra = first[entries.length] ?? entries[first.length]!;
	throw fault(`group ${group}, ${section}`, 'its devices enter different numbers of collectives', {
		expected: `${first.length} on each device, as on device ${against}`,
		found: `${entries.length} on device ${device}; without partner: ${faultAt(program, extra, '').parts.place}`,
	});
}

function kindOf({ instruction }: Entry): string {
	return instruction.op === 'allReduce' ? `allReduce of ${instruction.slots.length} slots` : `allGather along axis ${instruction.axis}`;
}

function slotsOf({ instruction }: Entry): string {
	return instruction.op === 'allReduce' ? instruction.slots.join(', ') : instruction.slot;
}
