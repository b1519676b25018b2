/** @file Runs the optimiser's graph over a bank in cache-sized chunks, in place. */
import { bankChunk } from '../../program/layout.ts';
import type { Bank } from '../../program/types.ts';
import { addressOf, type Environment, releaseValue, type Session, tensorOver } from './native.ts';
import type { Pointer } from './ort.ts';
import type { BankMemory } from './protocol.ts';

export interface Updater {
	/** One step with these hyperparameters and squared gradient norm; gradients are zero afterwards. */
	run(hyper: Pointer, normSquared: Pointer): void;
	release(): void;
}

/**
 * The graph's inputs are parameter, gradient, each moment (chunks of `bankChunk`), then hyperparameters and squared norm; its
 * outputs the new parameter, gradient and moments, written over the old.
 */
export function createUpdater(environment: Environment, session: Session, bank: Bank, memory: BankMemory): Updater {
	const arrays = [memory.parameter, memory.gradient!, ...memory.moments].map((b) => new Float32Array(b));
	const bases = arrays.map(addressOf);
	const chunks = (bank.trained ?? bank.size) / bankChunk;
	const type = { dtype: 'float32', shape: [bankChunk] } as const;
	const width = arrays.length;
	const tensors = Array.from({ length: chunks }, (_, c) =>
		bases.map((base) => tensorOver(environment, base + BigInt(c * bankChunk * 4), type)),
	);
	const inputs = new BigUint64Array(new SharedArrayBuffer(8 * (width + 2)));
	const outputs = new BigUint64Array(new SharedArrayBuffer(8 * width));
	return {
		run(hyper, normSquared) {
			inputs[width] = hyper;
			inputs[width + 1] = normSquared;
			for (const chunk of tensors) {
				for (let k = 0; k < width; k++) {
					inputs[k] = chunk[k]!;
					outputs[k] = chunk[k]!;
				}
				session.run(inputs, outputs);
			}
		},
		release() {
			for (const chunk of tensors) for (const t of chunk) releaseValue(t);
			session.release();
			arrays.length = 0;
		},
	};
}
