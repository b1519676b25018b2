/** @file What the devices of a traced run noted, as a timeline: work, waits and messages apart. */
import type { Span, Timeline } from '../../program/timeline.ts';
import type { ChannelId, DeviceProgram, GroupId, Instruction, Program } from '../../program/types.ts';
import { instructionText } from './device.ts';

type Section = 'prologue' | 'iteration' | 'epilogue';

/** Start and end per instruction of one device, ms on a clock that all devices share. */
export type Noted = Float64Array;

/**
 * The timeline of `section`, from 0 where the first device begins. A device that comes to a collective before the last of its group waits there: that time
 * is an `idle` span, as in predictions, and the collective begins when all are there.
 */
export function timelineOf(program: Program, section: Section, noted: readonly Noted[]): Timeline {
	const start = Math.min(...noted.flatMap((times) => (times.length > 0 ? [times[0]!] : [])));
	const meetings = meetingTimes(program, section, noted);
	const balanced = balancedChannels(program, section);
	return {
		devices: program.devices.map((device, k) => {
			const met = new Map<GroupId, number>();
			const numbers = new Map<string, number>();
			const spans = device[section].flatMap((instruction, n): Span[] => {
				const from = noted[k]![2 * n]! - start;
				const to = noted[k]![2 * n + 1]! - start;
				const span = spanOf(instruction, from, to);
				if (instruction.op === 'send' || instruction.op === 'recv') {
					const { channel, op } = instruction;
					const number = numbers.get(`${op} ${channel}`) ?? 0;
					numbers.set(`${op} ${channel}`, number + 1);
					return [balanced.has(channel) ? { ...span, message: `${channel} ${number}` } : span];
				}
				if (!('group' in instruction)) return [span];
				const { group } = instruction;
				const turn = met.get(group) ?? 0;
				met.set(group, turn + 1);
				const begin = Math.min(to, Math.max(from, (meetings.get(group)?.[turn] ?? from + start) - start));
				const wait: Span = { name: `wait for ${group}`, kind: 'idle', start: from, end: begin };
				return begin > from ? [wait, { ...span, start: begin }] : [span];
			});
			return { device: device.device, spans };
		}),
	};
}

/** When the last device of each group came to its first, second, ... collective. */
function meetingTimes(program: Program, section: Section, noted: readonly Noted[]): Map<GroupId, number[]> {
	const meetings = new Map<GroupId, number[]>();
	program.devices.forEach((device, k) => {
		const turns = new Map<GroupId, number>();
		device[section].forEach((instruction, n) => {
			if (!('group' in instruction)) return;
			const { group } = instruction;
			const turn = turns.get(group) ?? 0;
			turns.set(group, turn + 1);
			const times = meetings.get(group) ?? [];
			meetings.set(group, times);
			times[turn] = Math.max(times[turn] ?? Number.NEGATIVE_INFINITY, noted[k]![2 * n]!);
		});
	});
	return meetings;
}

/** Channels on which the section receives what it sends: their n-th receive takes the n-th message. */
function balancedChannels(program: Program, section: Section): Set<ChannelId> {
	const count = (op: 'send' | 'recv') => {
		const counts = new Map<ChannelId, number>();
		for (const i of program.devices.flatMap((device: DeviceProgram) => device[section]))
			if (i.op === op) counts.set(i.channel, (counts.get(i.channel) ?? 0) + 1);
		return counts;
	};
	const received = count('recv');
	return new Set([...count('send')].flatMap(([channel, n]) => (received.get(channel) === n ? [channel] : [])));
}

function spanOf(instruction: Instruction, start: number, end: number): Span {
	if (instruction.op !== 'run') return { name: instructionText(instruction), kind: instruction.op, start, end };
	const { label, action, frozen } = instruction;
	if (!frozen) return { name: label, kind: 'run', start, end, ...(action ? { action } : {}) };
	const { part, layers, samples } = frozen;
	return {
		name: label,
		kind: 'frozen',
		start,
		end,
		part,
		frozen,
		details: { component: part, layers: rangeText(layers), samples: rangeText(samples) },
	};
}

/** `0-3` for [0, 4). */
function rangeText([from, to]: readonly [number, number]): string {
	return to - from === 1 ? String(from) : `${from}-${to - 1}`;
}
