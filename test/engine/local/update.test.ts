import { describe, expect, it } from 'vitest';
import { allocateBank, type BankMemory } from '../../../src/engine/local/banks.ts';
import { modelOf, sharedEnvironment } from '../../../src/engine/local/engine.ts';
import { compileElementwise } from '../../../src/engine/local/kernel/elementwise.ts';
import { addressOf, createSession, releaseValue, tensorOver } from '../../../src/engine/local/native.ts';
import { createUpdater, updateParts } from '../../../src/engine/local/update.ts';
import { createBuilder } from '../../../src/graph/builder.ts';
import { adamwGraph, adamwHyper, adamwHyperSize } from '../../../src/program/adamw.ts';
import { bankChunk } from '../../../src/program/layout.ts';
import { bankId } from '../../../src/program/types.ts';
import { relativeDifference } from '../../helpers/fixture.ts';
import { uniformStream } from '../../helpers/random.ts';

describe('parts of an optimiser', () => {
	it("AdamW's scalars are computed once, and its passes over a chunk are as few as they were", () => {
		for (const ema of [false, true]) {
			const { once, each, further } = updateParts(adamwGraph(ema));
			expect(once!.inputs).toEqual(['hyper', 'normSquared']);
			expect(each.inputs.slice(0, 4)).toEqual(['parameter', 'gradient', 'first', 'second']);
			expect(further).toEqual(once!.outputs.map((_, i) => 2 + i));
			expect(each.nodes.length).toBeLessThanOrEqual(ema ? 17 : 14);
		}
	});

	it('an optimiser without scalars to compute has one part, which reads its hyperparameters', () => {
		const g = createBuilder('descent');
		const [p, grad, hyper] = [g.input('p', 'float32', [4]), g.input('g', 'float32', [4]), g.input('hyper', 'float32', [1])];
		g.input('norm', 'float32', [1]);
		const parts = updateParts(g.finish([g.sub(p, g.mul(grad, hyper)), g.mul(grad, 0)]));
		expect(parts.once).toBeUndefined();
		expect(parts.further).toEqual([0]);
	});
});

describe('one step', () => {
	const size = 2 * bankChunk;
	/** AdamW on a bank of random numbers, of which the first half is trained. */
	const stepped = (ema: boolean, byKernel: boolean): BankMemory => {
		const environment = sharedEnvironment();
		const graph = adamwGraph(ema);
		const { once, each, further } = updateParts(graph);
		const models = { once: modelOf(once!), each: modelOf(each), further, kernel: compileElementwise(each) };
		expect(models.kernel).toBeDefined();
		const allocated = allocateBank(size, ema ? 3 : 2, true);
		expect(allocated.memory).toBeDefined();
		const memory = byKernel ? allocated : { ...allocated, memory: undefined };
		const random = uniformStream(3);
		for (const array of [memory.parameter, memory.gradient!, ...memory.moments]) for (let i = 0; i < size; i++) array[i] = random();
		const hyper = new Float32Array(new SharedArrayBuffer(4 * adamwHyperSize));
		hyper.set(adamwHyper({ lr: 0.1, betas: [0.9, 0.99], eps: 1e-3, weightDecay: 0.1, step: 2, maxGradNorm: 3, emaDecay: 0.9 }));
		const norm = new Float32Array(new SharedArrayBuffer(4)).fill(16);
		const values = [
			tensorOver(environment, addressOf(hyper), { dtype: 'float32', shape: [adamwHyperSize] }),
			tensorOver(environment, addressOf(norm), { dtype: 'float32', shape: [1] }),
		];
		const bank = { id: bankId('b'), size, trained: bankChunk, moments: ema ? 3 : 2 };
		const updater = createUpdater(environment, models, (m) => createSession(environment, 'update', m.model, m), bank, memory);
		updater.run(values[0]!, values[1]!);
		updater.release();
		values.forEach(releaseValue);
		return memory;
	};

	it.each([false, true])('is the same by one loop as by ONNX Runtime, and leaves what is not trained (with average: %s)', (ema) => {
		const [loop, graph] = [stepped(ema, true), stepped(ema, false)];
		const arrays = (m: BankMemory) => [m.parameter, m.gradient!, ...m.moments];
		arrays(loop).forEach((array, k) => {
			expect(relativeDifference(array, arrays(graph)[k]!), `array ${k}`).toBeLessThan(1e-7);
		});
		expect(loop.gradient!.subarray(0, bankChunk).every((v) => v === 0)).toBe(true);
		expect(loop.gradient!.subarray(bankChunk).every((v) => v !== 0)).toBe(true);
	});

	it('is that of the definition', () => {
		const memory = stepped(false, true);
		const random = uniformStream(3);
		const [p, g, m, v] = [0, 1, 2, 3].map(() => Float64Array.from({ length: size }, () => Math.fround(random()))) as [
			Float64Array,
			Float64Array,
			Float64Array,
			Float64Array,
		];
		const clip = Math.min(1, 3 / (4 + 1e-6));
		const wanted = p.map((x, i) => {
			const m1 = 0.9 * m[i]! + 0.1 * clip * g[i]!;
			const v1 = 0.99 * v[i]! + 0.01 * (clip * g[i]!) ** 2;
			return x * (1 - 0.1 * 0.1) - ((0.1 / (1 - 0.9 ** 2)) * m1) / (Math.sqrt(v1) / Math.sqrt(1 - 0.99 ** 2) + 1e-3);
		});
		expect(relativeDifference(memory.parameter.subarray(0, bankChunk), wanted.subarray(0, bankChunk))).toBeLessThan(1e-6);
	});
});
