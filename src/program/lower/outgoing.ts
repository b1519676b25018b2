/** @file Values that leave a device: the slot itself goes where nobody here needs it any more, copies or cut rows otherwise. */
import type { ValueName } from '../../graph/types.ts';
import type { Message } from './operation.ts';
import type { Transfer } from './transfers.ts';
import type { OpenSlot } from './values.ts';
import type { Part } from './wire.ts';

/** Somebody else's need of a value. */
export interface Departure {
	readonly transfer: Transfer;
	readonly as: OpenSlot;
}

export interface Outgoing {
	/** Whether the value's own slot is sent. */
	readonly moved: boolean;
	/** New outputs, each with its slot. */
	readonly parts: readonly (readonly [Part, OpenSlot])[];
	readonly sends: readonly Message[];
}

/** Sends value `of`, which is in `slot`, to all that need it. `kept`: the slot is needed here afterwards. */
export function outgoing(of: ValueName, slot: OpenSlot, kept: boolean, departures: readonly Departure[]): Outgoing {
	const parts: (readonly [Part, OpenSlot])[] = [];
	const mover = kept ? -1 : departures.findIndex(({ transfer }) => transfer.whole);
	const sends = departures.map(({ transfer: { device, whole, rows }, as }, k): Message => {
		if (k === mover) return { slot, to: device, as };
		const copy = `${slot.slice(0, -1)}>${device}#`;
		parts.push([{ of, ...(whole ? {} : { rows }) }, copy]);
		return { slot: copy, to: device, as };
	});
	return { moved: mover >= 0, parts, sends };
}
