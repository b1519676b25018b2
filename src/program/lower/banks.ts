/** @file The slots of a stage's parameters and gradients, which live in its bank. */
import type { BankLayout } from '../layout.ts';
import { type BankId, type Resident, type SlotId, slotId } from '../types.ts';

/** Slot of a parameter. `scope` tells the backbones of a job apart; empty where there is one. */
export function parameterSlot(scope: string, name: string): SlotId {
	return slotId(`param:${scope}${name}`);
}

/** Slot of the gradient of a parameter, summed over micro-batches. */
export function gradientSlot(scope: string, name: string): SlotId {
	return slotId(`sum:${scope}${name}`);
}

/** Slot of all gradients of a bank. */
export function flatSlot(bank: BankId): SlotId {
	return slotId(`sum:${bank}/*`);
}

/** Residents of a bank: each parameter, and for training each gradient and the flat gradient buffer. */
export function bankResidents({ bank, trained: front, parameters }: BankLayout, training: boolean, scope = ''): Resident[] {
	const each = parameters.flatMap(({ name, shape, offset, trained }): Resident[] => [
		{ slot: parameterSlot(scope, name), dtype: 'float32', shape, bank, role: 'parameter', parameter: name, offset },
		...(training && trained
			? [{ slot: gradientSlot(scope, name), dtype: 'float32', shape, bank, role: 'gradient', parameter: name, offset } as const]
			: []),
	]);
	return training
		? [...each, { slot: flatSlot(bank), dtype: 'float32', shape: [front], bank, role: 'gradient', parameter: '*', offset: 0 }]
		: each;
}
