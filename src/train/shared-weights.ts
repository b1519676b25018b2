/** @file A second program over the weights of a training run: its parameters lie where the run has them, so nothing is copied and it always sees their present values. */
import { DiffusionPipeError } from '../core/errors.ts';
import { sizeOf } from '../core/tensor.ts';
import type { BankMemory } from '../engine/local/banks.ts';
import { createLocalEngine, type LocalEngine } from '../engine/local/engine.ts';
import type { Compiled } from '../program/lower.ts';
import { type Bank, type BankId, bankId, type DeviceId, type DeviceProgram, type Program } from '../program/types.ts';
import { verifyProgram } from '../program/verify.ts';
import type { BankRole, PlacedParameter } from './parameters.ts';

/** Shares one role of a run's parameters with a forward program. */
export interface SharedWeights {
	readonly parameters: readonly PlacedParameter[];
	/** `parameter`, or the moment with the moving average. */
	readonly role: BankRole;
	/** Which of the run's copies of the model a device of the program reads. */
	readonly copyOf: (device: DeviceId) => number;
}

/**
 * Starts `compiled`, a forward program whose parameters are among the run's, over the run's memory. Run it only while the training engine rests, and
 * close it first.
 */
export async function openOverWeights(
	{ program, graphs }: Pick<Compiled, 'program' | 'graphs'>,
	{ parameters, role, copyOf }: SharedWeights,
	threads: number,
): Promise<LocalEngine> {
	const byName = new Map(parameters.map((p) => [p.name, p]));
	const memories = new Map<string, BankMemory>();
	const key = (device: DeviceId, bank: BankId) => `${device} ${bank}`;
	const devices = program.devices.map((device): DeviceProgram => {
		const banks = new Map<ArrayBufferLike, { id: BankId; end: number }>();
		const residents = device.residents.map((r) => {
			const parameter = byName.get(r.parameter);
			const views = parameter?.views(role);
			const view = views?.[copyOf(device.device) % views.length];
			if (!view || view.length !== sizeOf(r.shape)) {
				throw new DiffusionPipeError('internal', 'a parameter is not the run’s', { place: `${program.name}: ${r.parameter}` });
			}
			const bank = banks.get(view.buffer) ?? { id: bankId(`shared${banks.size}`), end: 0 };
			const offset = view.byteOffset / 4;
			bank.end = Math.max(bank.end, offset + view.length);
			banks.set(view.buffer, bank);
			return { ...r, bank: bank.id, offset };
		});
		for (const [buffer, { id, end }] of banks) {
			const parameter = new Float32Array(buffer as SharedArrayBuffer, 0, end);
			memories.set(key(device.device, id), { parameter, gradient: undefined, moments: [], memory: undefined });
		}
		const declared = [...banks.values()].map(({ id, end }): Bank => ({ id, size: end, moments: 0, trained: 0 }));
		return { ...device, banks: declared, residents };
	});
	const shared: Program = { ...program, devices };
	verifyProgram(shared);
	return createLocalEngine({ program: shared, graphs }, { threads, banks: (device, bank) => memories.get(key(device, bank)) });
}
