/** @file Runs a model on its reference numbers through the local engine, whole or cut into stages, and compares every gradient. */
import { expect } from 'vitest';
import { sizeOf, type Tensor } from '../../src/core/tensor.ts';
import { createLocalEngine } from '../../src/engine/local/engine.ts';
import { readSafetensors } from '../../src/io/safetensors.ts';
import { type Chain, type Layer, traceChain } from '../../src/nn/chain.ts';
import type { Parameter } from '../../src/nn/context.ts';
import { scheduleByName } from '../../src/plan/schedules/index.ts';
import { lowerForward, lowerTraining } from '../../src/program/lower.ts';
import { verifyProgram } from '../../src/program/verify.ts';

export interface FixtureRun {
	/** Folder under test/fixtures. */
	readonly folder: string;
	readonly weights: string;
	readonly chain: Chain;
	/** Name of the chain's main output. */
	readonly output: string;
	/** Chain input to `in.` tensor, already in the chain's element type. */
	readonly inputs: (io: ReadonlyMap<string, Tensor>) => Record<string, Tensor>;
	/** First layers of the stages after the first; [] runs the whole on one device. */
	readonly cuts: readonly number[];
}

/** The chain with a mean-square loss against `target` added as its last layer. */
export function withLoss(chain: Chain, output: string, targetShape: readonly number[]): Chain {
	const loss: Layer = {
		name: 'test_loss',
		path: '',
		build({ g }, live) {
			const error = g.sub(live.get(output), live.get('target'));
			const total = g.reduceSumSquare(g.reshape(error, [1, -1]), [1], false);
			live.set('loss', g.mul(total, 1 / sizeOf(error.shape)));
			live.set('result', g.identity(live.get(output)));
		},
	};
	return {
		...chain,
		inputs: { ...chain.inputs, target: { dtype: 'float32', shape: targetShape.slice(1) } },
		layers: [...chain.layers, loss],
		outputs: ['loss'],
	};
}

/** Relative difference: norm of the difference over the norm. */
export function relativeDifference(found: ArrayLike<number>, wanted: ArrayLike<number>): number {
	let difference = 0;
	let norm = 0;
	for (let i = 0; i < wanted.length; i++) {
		difference += (found[i]! - wanted[i]!) ** 2;
		norm += wanted[i]! ** 2;
	}
	return Math.sqrt(difference) / Math.max(Math.sqrt(norm), 1e-30);
}

/** Loss within 1e-4 and every gradient within `gradTolerance`, relative. Returns the worst gradient difference. */
export async function checkTraining(run: FixtureRun, gradTolerance: number): Promise<number> {
	const root = new URL(`../fixtures/${run.folder}/`, import.meta.url);
	const { tensors: weights } = await readSafetensors(new URL(run.weights, root).pathname);
	const { tensors: io } = await readSafetensors(new URL('io.safetensors', root).pathname);
	const target = io.get('in.target')!;
	const inputs = run.inputs(io);
	const batch = target.shape[0]!;
	const trace = traceChain(withLoss(run.chain, run.output, target.shape), batch);
	expect([...trace.parameters.keys()].sort()).toEqual([...weights.keys()].sort());
	const stages = run.cuts.length + 1;
	const compiled = lowerTraining(trace, {
		cuts: run.cuts,
		replicas: 1,
		microBatches: 1,
		microBatchSize: batch,
		schedule: scheduleByName('gpipe')({ stages, microBatches: 1 }),
		moments: 0,
		hyperSize: 0,
	});
	verifyProgram(compiled.program);
	const engine = await createLocalEngine(compiled);
	try {
		compiled.banks.forEach((bank, s) => {
			const memory = engine.bank(compiled.program.devices[s]!.device, bank.bank, 'parameter');
			for (const p of bank.parameters) memory.set(weights.get(p.name)!.data as Float32Array, p.offset);
		});
		const { fetched } = await engine.run('iteration', { ...inputs, target });
		const loss = (fetched.get('loss')!.data as Float32Array)[0]!;
		const wanted = (io.get('loss')!.data as Float32Array)[0]!;
		expect(Math.abs(loss - wanted) / wanted).toBeLessThan(1e-4);
		let worst = 0;
		compiled.banks.forEach((bank, s) => {
			const memory = engine.bank(compiled.program.devices[s]!.device, bank.bank, 'gradient');
			for (const p of bank.parameters) {
				const reference = io.get(`grad.${p.name}`);
				const found = memory.subarray(p.offset, p.offset + sizeOf(p.shape));
				const wantedGrad = (reference?.data as Float32Array | undefined) ?? new Float32Array(found.length);
				const difference = reference ? relativeDifference(found, wantedGrad) : Math.max(...found.map(Math.abs));
				// Gradients that vanish in exact arithmetic (a key bias under softmax) are rounding noise in both.
				const noise = Math.hypot(...wantedGrad) < 1e-7 && Math.hypot(...found) < 1e-7;
				if (!noise) {
					expect(difference, p.name).toBeLessThan(gradTolerance);
					worst = Math.max(worst, difference);
				}
			}
		});
		return worst;
	} finally {
		await engine.close();
	}
}

/**
 * The chain's outputs, run forward only, against the `out.` tensors: `outputs` maps live names to theirs. Each within `tolerance`, relative.
 * Returns the worst difference.
 */
export async function checkOutputs(
	run: Omit<FixtureRun, 'cuts' | 'output'>,
	outputs: Record<string, string>,
	tolerance: number,
): Promise<number> {
	const root = new URL(`../fixtures/${run.folder}/`, import.meta.url);
	const { tensors: weights } = await readSafetensors(new URL(run.weights, root).pathname);
	const { tensors: io } = await readSafetensors(new URL('io.safetensors', root).pathname);
	const inputs = run.inputs(io);
	const fetched = await runForward(
		{ ...run.chain, outputs: Object.keys(outputs) },
		(p) => weights.get(p.name)!.data as Float32Array,
		inputs,
	);
	const differences = Object.entries(outputs).map(([live, name]) => {
		const [found, wanted] = [fetched.get(live)!, io.get(`out.${name}`)!];
		expect(found.shape, live).toEqual(wanted.shape);
		const difference = relativeDifference(found.data as Float32Array, wanted.data as Float32Array);
		expect(difference, live).toBeLessThan(tolerance);
		return difference;
	});
	return Math.max(...differences);
}

/** The chain's outputs for `inputs`, run forward on one device with parameters from `weightOf`. */
export async function runForward(
	chain: Chain,
	weightOf: (parameter: Parameter) => Float32Array,
	inputs: Record<string, Tensor>,
): Promise<ReadonlyMap<string, Tensor>> {
	const batch = Object.values(inputs)[0]!.shape[0]!;
	const compiled = lowerForward(traceChain(chain, batch), { devices: 1, microBatchSize: batch });
	verifyProgram(compiled.program);
	const engine = await createLocalEngine(compiled);
	try {
		const [bank] = compiled.banks;
		const memory = engine.bank(compiled.program.devices[0]!.device, bank!.bank, 'parameter');
		for (const p of bank!.parameters) memory.set(weightOf(p), p.offset);
		const { fetched } = await engine.run('iteration', inputs);
		return fetched;
	} finally {
		await engine.close();
	}
}
