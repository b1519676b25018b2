/** @file Filled programs on the local engine: the same losses and weights as training fed with frozen outputs that were computed apart. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Tensor } from '../../../src/core/tensor.ts';
import { createLocalEngine } from '../../../src/engine/local/engine.ts';
import { adamwGraph, adamwHyper, adamwHyperSize } from '../../../src/program/adamw.ts';
import { lowerFilled } from '../../../src/program/fill/lower.ts';
import { sweptProgram } from '../../../src/program/swept.ts';
import { deviceId, type Program } from '../../../src/program/types.ts';
import { verifyProgram } from '../../../src/program/verify.ts';
import { chainFeeds, mixedChain, selfChain } from '../chains.ts';
import { encoderChain, fillItems, frozenParts, teacherChain } from '../filled.ts';
import { evaluateChain, seededWeights } from '../reference.ts';
import { compile, layout } from '../suite.ts';

const batch = 8;
const folded = { ...layout([2, 5, 7], 'zero-bubble', 2, 2), place: { ranks: 2, placement: 'folded' } } as const;

function hyperOf(step: number): Tensor {
	const hyper = adamwHyper({ lr: 0.01, betas: [0.9, 0.99], eps: 1e-8, weightDecay: 0.01, step: step + 1, maxGradNorm: 1, emaDecay: 0 });
	return { dtype: 'float32', shape: [hyper.length], data: hyper };
}

const back = { input: 'self_cond', output: 'x0' };
const plain = { chain: mixedChain, swept: [false, false, false] };
const conditioned = (...swept: boolean[]) => ({ chain: selfChain, swept, selfConditioning: back });

test.each<[string, typeof plain & { selfConditioning?: typeof back }, ReturnType<typeof layout>]>([
	['one device', plain, layout([], '1f1b', 1, 2)],
	['two stages', plain, layout([2], '1f1b', 1, 4)],
	['two stages, two pipelines', plain, layout([2], '1f1b', 2, 2)],
	['self-conditioning on two stages', conditioned(true, true, false, true, false), layout([4], '1f1b', 1, 4)],
	['self-conditioning on folded ranks, two pipelines', conditioned(false, true, true), folded],
	['self-conditioning on eight devices', conditioned(true, false, true), layout([1, 2, 3, 4, 5, 6, 7], '1f1b', 1, 8)],
])('%s: losses are those of training fed with frozen outputs from elsewhere', async (_, { chain, swept, selfConditioning }, each) => {
	const { parts, given, traces } = frozenParts();
	const steps = swept.length;
	const training = compile(chain, each, { moments: 2, hyperSize: adamwHyperSize }, selfConditioning);
	const weights = seededWeights(training.banks.flatMap((b) => b.parameters));
	const frozenWeights = traces.map((trace) => seededWeights([...trace.parameters.values()], 11));
	const hosts = Array.from({ length: steps }, (_, k) => {
		const encoder = chainFeeds(encoderChain, batch, 100 + k);
		const { words } = chainFeeds(teacherChain, batch, 200 + k);
		const { x: _x, target: _target, self_cond, ...others } = chainFeeds(chain, batch, 300 + k);
		if (self_cond) others.self_cond = { ...self_cond, data: new Float32Array(self_cond.data.length) };
		const z = evaluateChain(encoderChain, batch, frozenWeights[0]!, encoder).get('z')!;
		const target = evaluateChain(teacherChain, batch, frozenWeights[1]!, { z, words: words! }).get('target')!;
		const fed = { 'encoder.pixels': encoder.pixels!, 'encoder.noise': encoder.noise!, 'teacher.words': words! };
		return { others, fed, x: z, target };
	});
	const write = (engine: Awaited<ReturnType<typeof createLocalEngine>>) => {
		for (const { device, banks } of engine.program.devices) {
			for (const { bank, parameters } of training.banks) {
				if (!banks.some(({ id }) => id === bank)) continue;
				for (const { name, offset } of parameters) engine.bank(device, bank, 'parameter').set(weights.get(name)!, offset);
			}
		}
	};
	const unfilled = await createLocalEngine(training, { update: adamwGraph(false) });
	const expected: Float32Array[] = [];
	try {
		write(unfilled);
		for (const [k, { x, target, others }] of hosts.entries()) {
			const { fetched } = await unfilled.run('iteration', { ...others, x, target, hyper: hyperOf(k) }, { swept: swept[k]! });
			expected.push(fetched.get('loss')!.data as Float32Array);
		}
	} finally {
		await unfilled.close();
	}

	const devices = training.program.devices.length;
	const startsIn = (program: Program) => (device: number) =>
		program.devices[device]!.iteration.flatMap((i) => (i.op === 'run' && i.action ? [i] : [])).map((_, i) => 9 * i + device);
	const starts = startsIn(training.program);
	const withSweep = sweptProgram(training.program);
	const fillings = fc.sample(fillItems(batch, devices, 50), { numRuns: 5, seed: 5 });
	for (const [n, items] of fillings.slice(1, devices > 4 ? 2 : 5).entries()) {
		const filled = lowerFilled(training, {
			...{ parts, given, items, starts },
			...(withSweep ? { swept: { items: fillings[n]!, starts: startsIn(withSweep) } } : {}),
		});
		verifyProgram(filled.program);
		const engine = await createLocalEngine(filled, { update: adamwGraph(false) });
		try {
			write(engine);
			for (const { device, part, layout: bank } of filled.frozenBanks) {
				const own = frozenWeights[parts.findIndex(({ name }) => name === part)]!;
				const buffer = engine.bank(deviceId(device), bank.bank, 'parameter');
				for (const { name, offset } of bank.parameters) buffer.set(own.get(name)!, offset);
			}
			// Either prologue makes what either kind of iteration takes.
			await engine.run('prologue', hosts[0]!.fed, { swept: withSweep !== undefined && n % 2 === 0 });
			for (let k = 0; k < steps; k++) {
				const own = { ...hosts[k]!.others, hyper: hyperOf(k) };
				const last = k === steps - 1;
				const fed = last ? own : { ...own, ...hosts[k + 1]!.fed };
				const { fetched } = await engine.run(last ? 'epilogue' : 'iteration', fed, { swept: swept[k]! });
				const found = fetched.get('loss')!.data as Float32Array;
				expect(found.length).toBe(batch);
				for (let i = 0; i < batch; i++) expect(Math.abs(found[i]! / expected[k]![i]! - 1)).toBeLessThan(2e-5);
			}
		} finally {
			await engine.close();
		}
	}
});
