/** @file From the operations of all devices to instructions: each message is received when it is first needed, each slot dropped after its last use. */
import { DiffusionPipeError } from '../../core/errors.ts';
import { formatAction } from '../../plan/schedules/text.ts';
import type { Action } from '../../plan/schedules/types.ts';
import { type ChannelId, channelId, deviceId, type Instruction, type SlotId, slotId } from '../types.ts';
import type { Operation } from './operation.ts';
import { slotOf } from './values.ts';

/** A device's part of an iteration. */
export interface Lane {
	readonly device: number;
	/** `after`: what follows an action's own instructions. */
	readonly actions: readonly { readonly action: Action; readonly operation: Operation; readonly after?: readonly Instruction[] }[];
	/** First sample of micro-batch 0 in the global batch. */
	readonly firstSample: number;
	readonly head: readonly Instruction[];
	readonly tail: readonly Instruction[];
}

/**
 * The iteration of each device. A channel carries what a device sends to another in the order of its own actions; the receiver takes messages from it until
 * it has those that its next action needs, so that no order of actions in which inputs come before their use can deadlock.
 */
export function emitLanes(lanes: readonly Lane[], microBatchSize: number): Instruction[][] {
	const channels = new Map<ChannelId, SlotId[]>();
	const channel = (from: number, to: number) => channelId(`${from}>${to}`);
	for (const { device, actions } of lanes) {
		for (const { action, operation } of actions) {
			for (const { to, as } of operation.sends) {
				const queue = channels.get(channel(device, to)) ?? [];
				channels.set(channel(device, to), queue);
				queue.push(slotOf(as, action.micro));
			}
		}
	}
	return lanes.map(({ device, actions, firstSample, head, tail }) => {
		const out: Instruction[] = [];
		const there = new Set<SlotId>();
		const residents = new Set<SlotId>();
		/** Slots that an action receives count as read by its run. */
		const readBy = new Map<Instruction, readonly SlotId[]>();
		for (const { action, operation, after = [] } of actions) {
			const { micro } = action;
			const at = (slot: string) => slotOf(slot, micro);
			const start = firstSample + micro * microBatchSize;
			for (const { slot, source, rows } of operation.feeds) {
				if (there.has(at(slot))) continue;
				there.add(at(slot));
				out.push({ op: 'feed', slot: at(slot), source, from: start + rows[0], to: start + rows[1] });
			}
			for (const { slot, from } of operation.receives) {
				while (!there.has(at(slot))) {
					const next = channels.get(channel(from, device))?.shift() ?? lost(action, slot, from);
					there.add(next);
					out.push({ op: 'recv', peer: deviceId(from), channel: channel(from, device), slot: next });
				}
			}
			const run: Instruction = {
				op: 'run',
				graph: operation.graph,
				inputs: operation.inputs.map(at),
				outputs: operation.outputs.map(at),
				action,
				label: formatAction(action),
			};
			out.push(run);
			readBy.set(
				run,
				operation.receives.map(({ slot }) => at(slot)),
			);
			for (const slot of [...operation.inputs, ...operation.outputs]) if (!slot.endsWith('#')) residents.add(slotId(slot));
			for (const { slot, name, row } of operation.fetches) out.push({ op: 'fetch', slot: at(slot), name, from: start + row });
			for (const { slot, to } of operation.sends)
				out.push({ op: 'send', peer: deviceId(to), channel: channel(device, to), slot: at(slot) });
			out.push(...after);
		}
		return [...head, ...withDrops(out, residents, readBy), ...tail];
	});
}

function lost(action: Action, slot: string, from: number): never {
	throw new DiffusionPipeError('internal', 'waits for what nobody sends', {
		place: `lowering of ${formatAction(action)}`,
		expected: `${slot} from device ${from}`,
	});
}

/** Adds a drop after the last use of each slot that is not sent away. */
function withDrops(
	instructions: readonly Instruction[],
	residents: ReadonlySet<SlotId>,
	readBy: ReadonlyMap<Instruction, readonly SlotId[]>,
): Instruction[] {
	const used = (i: Instruction): readonly SlotId[] => {
		if (i.op === 'run') return [...i.inputs, ...i.outputs, ...readBy.get(i)!];
		return i.op === 'feed' || i.op === 'fetch' ? [i.slot] : [];
	};
	const last = new Map<SlotId, number>();
	instructions.forEach((i, at) => {
		for (const slot of used(i)) last.set(slot, at);
	});
	for (const i of instructions) if (i.op === 'send') last.delete(i.slot);
	return instructions.flatMap((i, at) => {
		const done = [...new Set(used(i))].filter((slot) => last.get(slot) === at && !residents.has(slot));
		return done.length > 0 ? [i, { op: 'drop', slots: done }] : [i];
	});
}
