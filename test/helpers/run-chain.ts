/** @file Runs a chain forward on the local engine, on one device or cut into stages. */
import type { Tensor } from '../../src/core/tensor.ts';
import { createLocalEngine } from '../../src/engine/local/engine.ts';
import { type Chain, traceChain } from '../../src/nn/chain.ts';
import { lowerForward } from '../../src/program/lower.ts';
import { verifyProgram } from '../../src/program/verify.ts';

export interface RunLayout {
	/** First layers of the stages after the first. */
	readonly cuts?: readonly number[];
	readonly replicas?: number;
	readonly microBatches?: number;
}

/** The outputs of `chain` for `inputs` ([samples, ...] each), with parameters from `weights`. Every parameter must have its value there. */
export async function runChain(
	chain: Chain,
	weights: ReadonlyMap<string, Tensor>,
	inputs: Readonly<Record<string, Tensor>>,
	{ cuts = [], replicas = 1, microBatches = 1 }: RunLayout = {},
): Promise<ReadonlyMap<string, Tensor>> {
	const samples = Object.values(inputs)[0]!.shape[0]!;
	const microBatchSize = samples / (replicas * microBatches);
	const stages = cuts.length + 1;
	const compiled = lowerForward(traceChain(chain, microBatchSize), { devices: replicas * stages, microBatchSize, cuts, microBatches });
	verifyProgram(compiled.program);
	const engine = await createLocalEngine(compiled);
	try {
		for (const { device } of compiled.program.devices) {
			const bank = compiled.banks[device % stages]!;
			const memory = engine.bank(device, bank.bank, 'parameter');
			for (const p of bank.parameters) memory.set(weights.get(p.name)!.data as Float32Array, p.offset);
		}
		return (await engine.run('iteration', inputs)).fetched;
	} finally {
		await engine.close();
	}
}
