/** @file The loss and every gradient of a chain that ends in its loss, by the local engine, whole or cut into stages. */
import { sizeOf, type Tensor } from '../../src/core/tensor.ts';
import { createLocalEngine } from '../../src/engine/local/engine.ts';
import { type Chain, traceChain } from '../../src/nn/chain.ts';
import type { Parameter } from '../../src/nn/context.ts';
import { scheduleByName } from '../../src/plan/schedules/index.ts';
import { lowerTraining } from '../../src/program/lower.ts';
import type { Program } from '../../src/program/types.ts';
import { verifyProgram } from '../../src/program/verify.ts';

export interface ChainGradients {
	readonly loss: number;
	/** By parameter; what is not trained has none. */
	readonly gradients: ReadonlyMap<string, Float32Array>;
	readonly program: Program;
}

/** Runs one training step of `chain` without an update, with parameters from `weightOf`. */
export async function chainGradients(
	chain: Chain,
	weightOf: (parameter: Parameter) => Float32Array,
	inputs: Readonly<Record<string, Tensor>>,
	cuts: readonly number[] = [],
): Promise<ChainGradients> {
	const microBatchSize = Object.values(inputs)[0]!.shape[0]!;
	const schedule = scheduleByName('gpipe')({ stages: cuts.length + 1, microBatches: 1 });
	const layout = { cuts, replicas: 1, microBatches: 1, microBatchSize, schedule, moments: 2, hyperSize: 0 };
	const compiled = lowerTraining(traceChain(chain, microBatchSize), layout);
	verifyProgram(compiled.program);
	const engine = await createLocalEngine(compiled);
	try {
		const places = compiled.banks.flatMap((bank, s) =>
			bank.parameters.map((p) => ({ p, bank, device: compiled.program.devices[s]!.device })),
		);
		for (const { p, bank, device } of places) engine.bank(device, bank.bank, 'parameter').set(weightOf(p), p.offset);
		const { fetched } = await engine.run('iteration', inputs);
		const gradients = new Map<string, Float32Array>();
		for (const { p, bank, device } of places) {
			if (p.trained) gradients.set(p.name, engine.bank(device, bank.bank, 'gradient').slice(p.offset, p.offset + sizeOf(p.shape)));
		}
		return { loss: (fetched.get('loss')!.data as Float32Array)[0]!, gradients, program: compiled.program };
	} finally {
		await engine.close();
	}
}
