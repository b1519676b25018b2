/** @file Channels: one sender, one receiver, as many receives as sends, and messages received in the order in which they were sent. */
import { type Section, type Step, stepsOf } from '../order.ts';
import type { ChannelId, Instruction, Program } from '../types.ts';
import { faultAt } from './fault.ts';

interface Message extends Step {
	readonly instruction: Extract<Instruction, { op: 'send' | 'recv' }>;
}

interface Ends {
	readonly sends: Message[];
	readonly recvs: Message[];
}

/**
 * Throws a program error at the first send or receive that breaks a rule of its channel. An iteration receives as many messages as it sends, so
 * what the prologue leaves in flight stays in flight between iterations until the epilogue receives it. With `names`, a receiver that uses the
 * sender's slot names must use them in the sender's order (the tensors themselves carry no name).
 */
export function checkChannels(program: Program, names: boolean): void {
	for (const ends of channelsOf(program).values()) {
		checkEnds(program, ends);
		const iteration = { sends: of('iteration', ends.sends), recvs: of('iteration', ends.recvs) };
		// A second iteration pairs messages that the prologue left in flight.
		const all = {
			sends: [...of('prologue', ends.sends), ...iteration.sends, ...iteration.sends, ...of('epilogue', ends.sends)],
			recvs: [...of('prologue', ends.recvs), ...iteration.recvs, ...iteration.recvs, ...of('epilogue', ends.recvs)],
		};
		if (iteration.sends.length !== iteration.recvs.length) throw countFault(program, iteration, 'in an iteration');
		if (all.sends.length !== all.recvs.length) throw countFault(program, all, 'in prologue, two iterations and epilogue');
		const k = names ? firstMismatch(all) : -1;
		if (k >= 0) {
			throw faultAt(program, all.recvs[k]!, `receives ${all.sends[k]!.instruction.slot} under the name of another message`, {
				expected: `${all.sends[k]!.instruction.slot}: device ${all.sends[k]!.device} sends it as message ${k} of ${all.sends[k]!.instruction.channel}`,
				found: all.recvs[k]!.instruction.slot,
				hint: 'receive in the order of the sends, or on a channel of its own',
			});
		}
	}
}

function channelsOf(program: Program): Map<ChannelId, Ends> {
	const channels = new Map<ChannelId, Ends>();
	for (const step of program.devices.flatMap((device) => stepsOf(device, 1))) {
		const { instruction } = step;
		if (instruction.op !== 'send' && instruction.op !== 'recv') continue;
		const ends = channels.get(instruction.channel) ?? { sends: [], recvs: [] };
		channels.set(instruction.channel, ends);
		ends[instruction.op === 'send' ? 'sends' : 'recvs'].push({ ...step, instruction });
	}
	return channels;
}

function of(section: Section, messages: readonly Message[]): Message[] {
	return messages.filter((message) => message.section === section);
}

function checkEnds(program: Program, { sends, recvs }: Ends): void {
	const first = sends[0];
	if (!first) throw faultAt(program, recvs[0]!, 'receives what nobody sends', { expected: `a send over ${recvs[0]!.instruction.channel}` });
	if (recvs.length === 0)
		throw faultAt(program, first, 'sends what nobody receives', { expected: `a recv over ${first.instruction.channel}` });
	const { channel, peer } = first.instruction;
	for (const message of [...sends, ...recvs]) {
		const { op } = message.instruction;
		const [from, to] = op === 'send' ? [message.device, message.instruction.peer] : [message.instruction.peer, message.device];
		if (from === first.device && to === peer) continue;
		throw faultAt(program, message, `wrong peer, or another channel's name`, {
			expected: `channel ${channel} from device ${first.device} to ${peer}, as in its first send`,
			found: `from device ${from} to ${to}`,
		});
	}
}

/** At the first message without a partner: where the names part, or else behind the shorter list. */
function countFault(program: Program, { sends, recvs }: Ends, when: string): Error {
	const shorter = Math.min(sends.length, recvs.length);
	const parted = sends.findIndex((send, i) => i < shorter && send.instruction.slot !== recvs[i]!.instruction.slot);
	const more = sends.length > recvs.length ? sends : recvs;
	const at = more[parted >= 0 ? parted : shorter]!;
	const [sender, receiver] = [sends[0] ?? recvs[0]!, recvs[0] ?? sends[0]!];
	return faultAt(program, at, more === sends ? 'sends what is never received' : 'receives what is never sent', {
		expected: `as many receives as sends over ${at.instruction.channel} ${when}`,
		found: `${sends.length} sends by device ${sender.instruction.op === 'send' ? sender.device : sender.instruction.peer}, ${
			recvs.length
		} receives by device ${receiver.instruction.op === 'recv' ? receiver.device : receiver.instruction.peer}`,
	});
}

/** The first message whose receiver gives it the name of another message of the channel; -1 when there is none. */
function firstMismatch({ sends, recvs }: Ends): number {
	const sent = new Set(sends.map((send) => send.instruction.slot));
	return recvs.findIndex((recv, k) => recv.instruction.slot !== sends[k]!.instruction.slot && sent.has(recv.instruction.slot));
}
