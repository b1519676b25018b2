/** @file A local engine for training with self-conditioning: iterations with and without the sweep ahead, on the same weights. */
import { DiffusionPipeError } from '../../core/errors.ts';
import type { Compiled } from '../../program/lower.ts';
import type { BankId, DeviceId } from '../../program/types.ts';
import { allocateBank, type BankMemory } from './banks.ts';
import { createLocalEngine, type LocalEngine, type LocalEngineOptions } from './engine.ts';

export interface SweptEngine {
	/** Runs a section of the program, or an iteration with the sweep ahead. One run at a time. Throws what the engine throws. */
	run(
		section: Parameters<LocalEngine['run']>[0] | 'selfConditioned',
		feeds: Parameters<LocalEngine['run']>[1],
		options?: Parameters<LocalEngine['run']>[2],
	): ReturnType<LocalEngine['run']>;
	readonly bank: LocalEngine['bank'];
	close(): Promise<void>;
}

/**
 * Starts the devices of `compiled` and, for iterations with the sweep, threads of their own that use the same banks (their slots are apart, so a program that
 * keeps slots between iterations cannot be run so). Throws what `createLocalEngine` throws, and a program error when there is no program with a sweep.
 */
export async function createSweptEngine(
	{ program, selfConditioned, graphs }: Pick<Compiled, 'program' | 'selfConditioned' | 'graphs'>,
	options: LocalEngineOptions = {},
): Promise<SweptEngine> {
	if (!selfConditioned) {
		throw new DiffusionPipeError('program', 'has no iteration with a sweep ahead', {
			place: program.name,
			expected: 'a program lowered with self-conditioning',
		});
	}
	const memory = new Map<string, BankMemory>();
	const key = (device: DeviceId, bank: BankId) => `${device} ${bank}`;
	for (const { device, banks, residents } of program.devices) {
		for (const { id, size, moments, trained } of banks) {
			const gradient = residents.some((r) => r.bank === id && r.role === 'gradient');
			memory.set(key(device, id), options.banks?.(device, id) ?? allocateBank(size, moments, gradient, trained));
		}
	}
	const banks = (device: DeviceId, bank: BankId) => memory.get(key(device, bank));
	const plain = await createLocalEngine({ program, graphs }, { ...options, banks });
	let swept: LocalEngine;
	try {
		swept = await createLocalEngine({ program: selfConditioned, graphs }, { ...options, banks });
	} catch (error) {
		await plain.close();
		throw error;
	}
	return {
		run: (section, feeds, how) => (section === 'selfConditioned' ? swept.run('iteration', feeds, how) : plain.run(section, feeds, how)),
		bank: plain.bank,
		close: async () => {
			await Promise.all([plain.close(), swept.close()]);
		},
	};
}
