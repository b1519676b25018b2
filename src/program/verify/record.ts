/** @file What the verifier notes of each device during a replay: types, peak memory, and slots that outlive an iteration or the program. */
import type { TypeShape } from '../../core/tensor.ts';
import { formatStep, type Section, type Step } from '../order.ts';
import type { DeviceProgram, Program, SlotId } from '../types.ts';
import { fault, faultAt } from './fault.ts';
import type { DeviceSlots } from './slots.ts';

export interface DeviceRecord {
	readonly slots: DeviceSlots;
	/** By section and index: the types that the instruction produces or moves. */
	readonly types: Record<Section, (readonly TypeShape[])[]>;
	peakBytes: number;
	peak?: { readonly step: Step; readonly slotBytes: number; readonly workspaceBytes: number };
	/** Slots that the prologue leaves to the first iteration. */
	carried: ReadonlySet<SlotId>;
}

/** The record of a device before its first instruction. */
export function startRecord(slots: DeviceSlots): DeviceRecord {
	return { slots, types: { prologue: [], iteration: [], epilogue: [] }, peakBytes: slots.fixedBytes, carried: new Set() };
}

/** To be called before a step is played. Throws a program error when the second iteration begins with a slot that the first did not begin with. */
export function beforeStep(program: Program, record: DeviceRecord, step: Step): void {
	if (step.section !== 'iteration' || step.index > 0) return;
	const live = record.slots.live();
	if (step.round === 0) record.carried = new Set(live.keys());
	for (const [slot, { setBy }] of live) {
		if (!record.carried.has(slot)) throw leak(program, slot, setBy!, 'iteration');
	}
}

/** To be called after a step is played, with the bytes that were live before it. */
export function afterStep(program: Program, record: DeviceRecord, step: Step, types: readonly TypeShape[], liveBefore: number): void {
	record.types[step.section][step.index] = types;
	const { slots } = record;
	const { instruction } = step;
	const workspaceBytes = instruction.op === 'run' ? program.graphs[instruction.graph]!.workspaceBytes : 0;
	const slotBytes = Math.max(liveBefore, slots.liveBytes);
	const bytes = slots.fixedBytes + slotBytes + workspaceBytes;
	if (bytes <= record.peakBytes && record.peak) return;
	record.peakBytes = bytes;
	record.peak = { step, slotBytes, workspaceBytes };
}

/** To be called at the end. Throws a program error when a slot is still set. */
export function checkEmpty(program: Program, record: DeviceRecord): void {
	for (const [slot, { setBy }] of record.slots.live()) throw leak(program, slot, setBy!, 'program');
}

function leak(program: Program, slot: SlotId, setBy: Step, when: 'iteration' | 'program'): Error {
	return faultAt(program, setBy, `sets slot ${slot}, which is still set at the end of the ${when}`, {
		expected: when === 'iteration' ? 'the slots that the iteration began with' : 'no slot but residents',
		hint: 'drop it after its last use',
	});
}

/** Throws a program error that says where the peak is and what it is made of when it is above `memoryBytes`. */
export function checkMemory(
	program: Program,
	{ device }: DeviceProgram,
	{ peakBytes, peak, slots }: DeviceRecord,
	memoryBytes: number,
): void {
	if (peakBytes <= memoryBytes) return;
	const parts = [
		`${slots.fixedBytes} in banks and residents`,
		...(peak ? [`${peak.slotBytes} in slots`, `${peak.workspaceBytes} of workspace`] : []),
	];
	throw fault(peak ? formatStep(program, peak.step) : `device ${device}`, 'needs more memory than the device has', {
		expected: `at most ${memoryBytes} bytes`,
		found: `${peakBytes} bytes: ${parts.join(', ')}`,
		hint: 'more stages, smaller micro-batches, recomputing activations, or a schedule with less warm-up',
		reason: 'memory',
	});
}
