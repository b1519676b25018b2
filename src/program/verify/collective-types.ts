/** @file The parts of one collective together: their types must fit each other. */
import { describe, type TypeShape } from '../../core/tensor.ts';
import { formatStep, type Step } from '../order.ts';
import type { DeviceId, Instruction, Program, SlotId } from '../types.ts';
import { faultAt } from './fault.ts';
import { type DeviceSlots, describeHeld, sameButFor, sameType, withDimension } from './slots.ts';

/**
 * Executes the parts of a collective, one step per device of its group, all of one operation. Returns the types that each device moves (allReduce) or
 * gets (allGather). Throws a program error at the first device whose slots differ in type from the first device's; parts that allGather joins may
 * differ in size along its axis.
 */
export function playCollective(
	program: Program,
	slots: ReadonlyMap<DeviceId, DeviceSlots>,
	steps: readonly Step[],
): readonly (readonly TypeShape[])[] {
	const parts = steps.map((step) => ({ step, instruction: step.instruction, slots: slots.get(step.device)! }));
	const { instruction } = parts[0]!;
	return instruction.op === 'allReduce'
		? allReduce(program, parts as Part<'allReduce'>[])
		: allGather(program, parts as Part<'allGather'>[]);
}

/** One device's side of a collective. */
interface Entered {
	readonly step: Step;
	readonly slots: DeviceSlots;
}

interface Part<Op extends Instruction['op']> extends Entered {
	readonly instruction: Extract<Instruction, { op: Op }>;
}

function allReduce(program: Program, parts: readonly Part<'allReduce'>[]): TypeShape[][] {
	for (const { step, instruction } of parts) {
		const repeated = instruction.slots.find((slot, i) => instruction.slots.indexOf(slot) !== i);
		if (repeated !== undefined) throw faultAt(program, step, `reduces slot ${repeated} twice`);
	}
	const types = parts.map(({ step, instruction, slots }) => instruction.slots.map((slot) => slots.read(slot, step).type));
	parts.forEach((part, i) => {
		types[0]!.forEach((type, k) => {
			if (!sameType(type, types[i]![k]!)) throw mismatch(program, parts[0]!, type, part, part.instruction.slots[k]!);
		});
	});
	return types;
}

function allGather(program: Program, parts: readonly Part<'allGather'>[]): TypeShape[][] {
	const { axis } = parts[0]!.instruction;
	const types = parts.map(({ step, instruction, slots }) => slots.read(instruction.slot, step).type);
	const first = types[0]!;
	if (!(Number.isInteger(axis) && axis >= 0 && axis < first.shape.length)) {
		throw faultAt(program, parts[0]!.step, 'joins along an axis that the slot does not have', {
			expected: `an axis of ${describe(first)}`,
			found: String(axis),
		});
	}
	parts.forEach((part, i) => {
		if (!sameButFor(axis, first, types[i]!)) throw mismatch(program, parts[0]!, first, part, part.instruction.slot);
	});
	const size = types.reduce((sum, { shape }) => sum + shape[axis]!, 0);
	const joined = { dtype: first.dtype, shape: withDimension(first.shape, axis, size) };
	for (const { step, instruction, slots } of parts) slots.set(instruction.output, { type: joined }, step);
	return parts.map(() => [joined]);
}

function mismatch(program: Program, first: Entered, type: TypeShape, { step, slots }: Entered, slot: SlotId): Error {
	return faultAt(program, step, 'enters the collective with another type', {
		expected: `${describe(type)}, as in ${formatStep(program, first.step)}`,
		found: describeHeld(program, slot, slots.read(slot, step)),
	});
}
