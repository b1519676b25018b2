/** @file The weights of frozen parts in a run of several sizes: those of each part lie in memory once, for the devices and programs of every size. */
import { DiffusionPipeError } from '../../core/errors.ts';
import { allocateBank, type BankMemory } from '../../engine/local/banks.ts';
import { traceChain } from '../../nn/chain.ts';
import { frozenParameterSlot } from '../../program/fill/emit.ts';
import type { FilledProgram } from '../../program/fill/lower.ts';
import { type BankLayout, layoutBank } from '../../program/layout.ts';
import type { BankId, DeviceProgram } from '../../program/types.ts';
import type { RunPart } from './parts.ts';

/** Frozen weights that programs share. */
export interface FrozenStore {
	/**
	 * `filled` with its frozen weights where the store has them; those of a part are read when it is first seen. Throws an internal error when a part has other
	 * weights than before.
	 */
	place(filled: FilledProgram, parts: readonly RunPart[]): Promise<FilledProgram>;
	/** Memory of a frozen bank; undefined for other banks. */
	bank(id: BankId): BankMemory | undefined;
}

/** A store without weights yet. */
export function frozenStore(): FrozenStore {
	const known = new Map<string, { readonly layout: BankLayout; readonly memory: BankMemory }>();
	const layoutOf = ({ name, chain }: RunPart) => layoutBank(`frozen.${name}`, [...traceChain(chain, 1).parameters.values()]);
	const read = async (part: RunPart, layout: BankLayout) => {
		const memory = allocateBank(layout.size, 0, false);
		for (const { name, offset } of layout.parameters) memory.parameter.set(await part.weights(name), offset);
		known.set(layout.bank, { layout, memory });
	};
	const shapes = ({ parameters }: BankLayout) => JSON.stringify(parameters.map(({ name, shape, offset }) => [name, shape, offset]));
	return {
		async place(filled, parts) {
			const offsets = new Map<string, number>();
			for (const part of parts) {
				const layout = layoutOf(part);
				const entry = known.get(layout.bank);
				if (!entry) await read(part, layout);
				else if (shapes(entry.layout) !== shapes(layout))
					throw new DiffusionPipeError('internal', 'a frozen part has other weights at another size', { place: part.name });
				for (const { name, offset } of layout.parameters) offsets.set(frozenParameterSlot(part.name, name), offset);
			}
			const devices = filled.program.devices.map(
				(device): DeviceProgram => ({
					...device,
					banks: device.banks.map((bank) => ({ ...bank, size: known.get(bank.id)?.layout.size ?? bank.size })),
					residents: device.residents.map((r) => {
						const offset = offsets.get(r.slot);
						return offset === undefined ? r : { ...r, offset };
					}),
				}),
			);
			return { ...filled, program: { ...filled.program, devices }, frozenBanks: [] };
		},
		bank: (id) => known.get(id)?.memory,
	};
}
