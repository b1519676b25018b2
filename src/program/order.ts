/** @file An order in which the devices can execute a program together, or the deadlock that keeps them from it. */
import { DiffusionPipeError } from '../core/errors.ts';
import { formatInstruction, rolesOf } from './text.ts';
import type { ChannelId, DeviceId, DeviceProgram, GroupId, Instruction, Program } from './types.ts';

export type Section = 'prologue' | 'iteration' | 'epilogue';

/** Where an instruction stands. */
export interface Position {
	readonly device: DeviceId;
	readonly section: Section;
	/** Which iteration, from 0; 0 in the other sections. */
	readonly round: number;
	/** Index within the section. */
	readonly index: number;
}

/** One executed instruction. */
export interface Step extends Position {
	readonly instruction: Instruction;
}

/** `device 0, iteration 5 (send h#3 to 1 over 0>1)`: how error messages name an instruction. */
export function formatStep(program: Program, { device, section, round, index, instruction }: Step): string {
	const owner = program.devices.find((d) => d.device === device);
	const text = formatInstruction(instruction, owner && rolesOf(owner));
	return `device ${device}, ${section} ${index}${round > 0 ? ', next time' : ''} (${text})`;
}

/** Everything one device executes: prologue, `iterations` times the iteration, epilogue. */
export function stepsOf(program: DeviceProgram, iterations: number): Step[] {
	const { device } = program;
	const section = (name: Section, round: number) =>
		program[name].map((instruction, index): Step => ({ device, section: name, round, index, instruction }));
	return [
		...section('prologue', 0),
		...Array.from({ length: iterations }, (_, round) => section('iteration', round)).flat(),
		...section('epilogue', 0),
	];
}

/**
 * An order of all devices' instructions in which every receive comes after its send, with the parts of a collective next to each other in the
 * group's device order. Sends are buffered and never wait; receives wait for their message (first in, first out per channel) and collectives for
 * the whole group. Expects known peers, channels and groups; throws a program error that says what every device waits for when none can go on.
 */
export function executionOrder(program: Program, iterations: number): Step[] {
	const order: Step[] = [];
	const lanes = new Map(program.devices.map((d) => [d.device, { steps: stepsOf(d, iterations), next: 0 }]));
	const inFlight = new Map<ChannelId, number>();
	const current = (device: DeviceId): Step | undefined => {
		const lane = lanes.get(device)!;
		return lane.steps[lane.next];
	};
	const advance = (device: DeviceId) => {
		order.push(current(device)!);
		lanes.get(device)!.next++;
	};
	const joined = (group: GroupId, device: DeviceId) => {
		const instruction = current(device)?.instruction;
		return instruction !== undefined && 'group' in instruction && instruction.group === group;
	};
	const tryStep = ({ device, instruction }: Step): boolean => {
		if ('group' in instruction) {
			const members = program.groups[instruction.group]!;
			if (!members.every((member) => joined(instruction.group, member))) return false;
			members.forEach(advance);
			return true;
		}
		if (instruction.op === 'send' || instruction.op === 'recv') {
			const waiting = inFlight.get(instruction.channel) ?? 0;
			if (instruction.op === 'recv' && waiting === 0) return false;
			inFlight.set(instruction.channel, waiting + (instruction.op === 'send' ? 1 : -1));
		}
		advance(device);
		return true;
	};
	for (let progress = true; progress; ) {
		progress = false;
		for (const device of lanes.keys()) {
			for (let step = current(device); step && tryStep(step); step = current(device)) progress = true;
		}
	}
	const stuck = [...lanes.keys()].flatMap((device) => current(device) ?? []);
	if (stuck.length > 0) {
		const finished = [...lanes.keys()].filter((device) => current(device) === undefined);
		const waits = stuck.map((step) => `${formatStep(program, step)} waits for ${waitsFor(program, step, joined)}`);
		throw new DiffusionPipeError('program', 'deadlock', {
			place: `program ${program.name}`,
			expected: 'at every moment some device that can go on',
			found: [...waits, ...finished.map((device) => `device ${device} has finished`)].join('\n         '),
			hint: 'send before receiving in at least one device of the circle, and enter collectives in one order everywhere',
		});
	}
	return order;
}

function waitsFor(program: Program, { device, instruction }: Step, joined: (group: GroupId, device: DeviceId) => boolean): string {
	if (!('group' in instruction))
		return instruction.op === 'recv' ? `device ${instruction.peer} to send over ${instruction.channel}` : 'nothing';
	const missing = program.groups[instruction.group]!.filter((member) => member !== device && !joined(instruction.group, member));
	return `device ${missing.join(' and ')} to enter ${instruction.group}`;
}
