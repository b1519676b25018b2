/** @file Programs as text for people, snapshots and error messages: one line per instruction, long lists of slots summarised. Not read back. */
import { describe, type TypeShape } from '../core/tensor.ts';
import { formatAction } from '../plan/schedules/text.ts';
import { kindsOf } from './swept.ts';
import type { DeviceProgram, GraphSignature, Instruction, Program, Resident, SlotId } from './types.ts';

/** The role of a slot that is resident on the instruction's device, undefined for any other slot. */
export type RoleOf = (slot: SlotId) => Resident['role'] | undefined;

/** Items of a list that are printed before `… n more`. */
const LIST_LIMIT = 8;

/** Looks up the roles of a device's resident slots. */
export function rolesOf(device: DeviceProgram): RoleOf {
	const roles = new Map(device.residents.map(({ slot, role }) => [slot, role]));
	return (slot) => roles.get(slot);
}

/**
 * One line, such as `run 0F3 stage0.forward (x#3, 12 parameters) -> (h#3, 8 saved)`. Slots in a row are counted together: resident ones by
 * role (with `roleOf`), others by the part of the name before its colon.
 */
export function formatInstruction(instruction: Instruction, roleOf: RoleOf = () => undefined): string {
	const list = (slots: readonly SlotId[]) => `(${formatSlots(slots, roleOf)})`;
	switch (instruction.op) {
		case 'feed': {
			const { slot, source, from, to } = instruction;
			return `feed ${slot} <- ${source}${from === 0 && to === 0 ? '' : `[${from}:${to}]`}`;
		}
		case 'run': {
			const { graph, inputs, outputs, action, label } = instruction;
			return `run ${action ? formatAction(action) : label} ${graph} ${list(inputs)} -> ${list(outputs)}`;
		}
		case 'send':
			return `send ${instruction.slot} to ${instruction.peer} over ${instruction.channel}`;
		case 'recv':
			return `recv ${instruction.slot} from ${instruction.peer} over ${instruction.channel}`;
		case 'allReduce':
			return `allReduce ${list(instruction.slots)} over ${instruction.group}`;
		case 'allGather':
			return `allGather ${instruction.slot} -> ${instruction.output} over ${instruction.group}, axis ${instruction.axis}`;
		case 'update':
			return `update ${instruction.bank} (${instruction.hyper}, ${instruction.normSquared})`;
		case 'fetch':
			return `fetch ${instruction.slot} as ${instruction.name} from ${instruction.from}`;
		case 'drop':
			return `drop ${list(instruction.slots)}`;
	}
}

/** The whole program: sources, groups, graphs, then each device with what it holds and its numbered instructions. */
export function formatProgram(program: Program): string {
	const lines = [`program ${program.name}, version ${program.version}`];
	for (const [name, source] of Object.entries(program.sources)) {
		lines.push(`source ${name} ${describe(source)}${source.perSample ? ', per sample' : ''}`);
	}
	for (const [name, devices] of Object.entries(program.groups)) lines.push(`group ${name} (${devices.join(', ')})`);
	for (const [name, signature] of Object.entries(program.graphs)) lines.push(`graph ${name} ${formatSignature(signature)}`);
	for (const device of program.devices) lines.push(...deviceLines(device));
	return `${lines.join('\n')}\n`;
}

function deviceLines(device: DeviceProgram): string[] {
	const roleOf = rolesOf(device);
	const lines = [`device ${device.device}`];
	for (const { id, size, moments } of device.banks) lines.push(`  bank ${id} ${size} elements, ${moments} moments`);
	if (device.residents.length > 0) {
		const roles = ['parameter', 'gradient', 'frozen'] as const;
		const counts = roles.map((role) => countOf(device.residents.filter((resident) => resident.role === role).length, role));
		lines.push(`  resident ${counts.filter((text) => !text.startsWith('0 ')).join(', ')}`);
	}
	for (const [kind, sections] of kindsOf(device).entries()) {
		for (const section of ['prologue', 'iteration', 'epilogue'] as const) {
			const instructions = sections[section];
			if (instructions.length === 0) continue;
			lines.push(`  ${section}${kind > 0 ? ' with a sweep ahead' : ''}`);
			const width = String(instructions.length - 1).length;
			instructions.forEach((instruction, i) => {
				lines.push(`    ${String(i).padStart(width)} ${formatInstruction(instruction, roleOf)}`);
			});
		}
	}
	return lines;
}

function formatSignature({ inputs, outputs, workspaceBytes }: GraphSignature): string {
	return `${formatTypes(inputs)} -> ${formatTypes(outputs)}${workspaceBytes > 0 ? `, workspace ${workspaceBytes} bytes` : ''}`;
}

/** `(float32[2,4], float32[10] x3)`: equal types in a row are counted. */
function formatTypes(types: readonly TypeShape[]): string {
	const items = groupRuns(
		types.map((type) => describe(type)),
		(a, b) => a === b,
	).map((run) => (run.length > 1 ? `${run[0]} x${run.length}` : run[0]!));
	return `(${shorten(items)})`;
}

function formatSlots(slots: readonly SlotId[], roleOf: RoleOf): string {
	const kindOf = (slot: SlotId) => roleOf(slot) ?? (slot.includes(':') ? slot.slice(0, slot.indexOf(':')) : slot);
	const items = groupRuns(slots, (a, b) => kindOf(a) === kindOf(b)).flatMap((run): readonly string[] => {
		const role = roleOf(run[0]!);
		if (role !== undefined) return run.length > 1 ? [countOf(run.length, role)] : run;
		return run.length > 2 ? [`${run.length} ${kindOf(run[0]!)}`] : run;
	});
	return shorten(items);
}

function shorten(items: readonly string[]): string {
	if (items.length <= LIST_LIMIT + 1) return items.join(', ');
	return [...items.slice(0, LIST_LIMIT), `… ${items.length - LIST_LIMIT} more`].join(', ');
}

function countOf(count: number, role: Resident['role']): string {
	return `${count} ${role}${role === 'frozen' || count === 1 ? '' : 's'}`;
}

/** Cuts `items` into runs in which each neighbour is alike. */
function groupRuns<T>(items: readonly T[], alike: (a: T, b: T) => boolean): T[][] {
	const runs: T[][] = [];
	for (const item of items) {
		const run = runs.at(-1);
		if (run && alike(run.at(-1)!, item)) run.push(item);
		else runs.push([item]);
	}
	return runs;
}
