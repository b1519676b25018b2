/** @file Memory of banks that several programs share, as those of one model at several sizes: weights, gradients and moments are there once. */
import { DiffusionPipeError } from '../core/errors.ts';
import { allocateBank, type BankMemory } from '../engine/local/banks.ts';
import type { BankId, DeviceId, Program } from '../program/types.ts';

/** Gives a program the memory of its banks: new memory to the first that declares a bank on a device, the same to every later one. */
export type BankStore = (program: Program) => (device: DeviceId, bank: BankId) => BankMemory;

/** A store without memory yet. Only one of its programs may run at a time. Throws an internal error when a later program lays a bank out otherwise. */
export function bankStore(): BankStore {
	const known = new Map<string, { readonly layout: string; readonly memory: BankMemory }>();
	return (program) => (device, id) => {
		const own = program.devices.find((d) => d.device === device)!;
		const bank = own.banks.find((b) => b.id === id)!;
		const residents = own.residents.filter((r) => r.bank === id);
		const layout = JSON.stringify([bank, residents.map(({ role, parameter, offset, shape }) => [role, parameter, offset, shape])]);
		const key = `${device} ${id}`;
		const entry = known.get(key);
		if (!entry) {
			const gradient = residents.some((r) => r.role === 'gradient');
			const memory = allocateBank(bank.size, bank.moments, gradient, bank.trained);
			known.set(key, { layout, memory });
			return memory;
		}
		if (entry.layout === layout) return entry.memory;
		throw new DiffusionPipeError('internal', 'two programs lay their weights out differently', {
			place: `${program.name}, device ${device}, bank ${id}`,
		});
	};
}
