/** @file The slots of one device while a program is replayed: what is set, of which type, since when, and how many bytes that is. */
import { byteSize, describe, type Shape, sameShape, type TypeShape } from '../../core/tensor.ts';
import { formatStep, type Step } from '../order.ts';
import type { DeviceProgram, Program, SlotId } from '../types.ts';
import { faultAt } from './fault.ts';

/** A value in a slot. */
export interface Held {
	readonly type: TypeShape;
	/** The instruction that set the slot; absent for residents. */
	readonly setBy?: Step;
	/** The send it came from, when it was received. */
	readonly sentBy?: Step;
	/** The micro-batch of the F, B, I or W that computed the value, when one did. */
	readonly micro?: number;
}

/** Slots of one device. Methods throw program errors at the step they are called for. */
export class DeviceSlots {
	readonly program: Program;
	readonly residents: ReadonlyMap<SlotId, Held>;
	/** Bytes of banks and of residents with a buffer of their own. */
	readonly fixedBytes: number;
	/** Bytes of the slots that are set. */
	liveBytes = 0;
	private readonly held = new Map<SlotId, Held>();
	private readonly goneBy = new Map<SlotId, Step>();

	constructor(program: Program, device: DeviceProgram) {
		this.program = program;
		this.residents = new Map(device.residents.map(({ slot, dtype, shape }) => [slot, { type: { dtype, shape } }]));
		// Weights that only run have no gradient: neither an optimiser nor a backward.
		const summed = new Set(device.residents.flatMap(({ bank, role }) => (role === 'gradient' && bank !== undefined ? [bank] : [])));
		const banks = device.banks.map(
			({ id, size, moments, trained = size }) => 4 * (size + trained * ((moments > 0 || summed.has(id) ? 1 : 0) + moments)),
		);
		const own = device.residents.filter((resident) => resident.bank === undefined).map((resident) => byteSize(resident));
		this.fixedBytes = [...banks, ...own].reduce((a, b) => a + b, 0);
	}

	/** The slots that are set, residents apart. */
	live(): ReadonlyMap<SlotId, Held> {
		return this.held;
	}

	/** What `slot` holds. */
	read(slot: SlotId, step: Step): Held {
		const held = this.held.get(slot) ?? this.residents.get(slot);
		if (held) return held;
		const gone = this.goneBy.get(slot);
		const verb = gone?.instruction.op === 'send' ? 'sent away' : 'dropped';
		if (gone)
			throw faultAt(this.program, step, `uses slot ${slot} after it was ${verb}`, {
				found: `${verb} by ${formatStep(this.program, gone)}`,
			});
		throw faultAt(this.program, step, `uses slot ${slot} before it is set`);
	}

	/** Puts a value into a slot that is not set. */
	set(slot: SlotId, held: Held, step: Step): void {
		if (this.residents.has(slot)) {
			throw faultAt(this.program, step, `sets resident slot ${slot}`, { expected: 'a slot of its own: only run writes resident slots' });
		}
		const before = this.held.get(slot);
		if (before?.setBy) {
			throw faultAt(this.program, step, `sets slot ${slot} while it is set`, {
				found: `set by ${formatStep(this.program, before.setBy)}`,
				hint: 'drop it first',
			});
		}
		this.held.set(slot, { ...held, setBy: step });
		this.liveBytes += byteSize(held.type);
	}

	/** Empties a slot that is set and returns what it held. */
	take(slot: SlotId, step: Step): Held {
		const held = this.read(slot, step);
		if (this.residents.has(slot)) {
			throw faultAt(this.program, step, `gives resident slot ${slot} away`, { expected: 'a slot that is not resident' });
		}
		this.held.delete(slot);
		this.goneBy.set(slot, step);
		this.liveBytes -= byteSize(held.type);
		return held;
	}
}

/** True when both types are the same. */
export function sameType(a: TypeShape, b: TypeShape): boolean {
	return a.dtype === b.dtype && sameShape(a.shape, b.shape);
}

/** True when both types are the same but for the size of dimension `axis`. */
export function sameButFor(axis: number, a: TypeShape, b: TypeShape): boolean {
	return sameType({ ...a, shape: withDimension(a.shape, axis, 0) }, { ...b, shape: withDimension(b.shape, axis, 0) });
}

/** Type of a slot and where it came from, for `found`. */
export function describeHeld(program: Program, slot: SlotId, held: Held): string {
	const text = `${describe(held.type)} in slot ${slot}`;
	if (held.sentBy) return `${text}, sent by ${formatStep(program, held.sentBy)}`;
	return held.setBy ? `${text}, set by ${formatStep(program, held.setBy)}` : `${text}, resident`;
}

/** `shape` with dimension `axis` replaced. */
export function withDimension(shape: Shape, axis: number, size: number): Shape {
	return shape.map((d, i) => (i === axis ? size : d));
}
