/** @file Filled programs on the local engine: the same losses and weights as training fed with frozen outputs that were computed apart. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Tensor } from '../../../src/core/tensor.ts';
import { createLocalEngine } from '../../../src/engine/local/engine.ts';
import { adamwGraph, adamwHyper, adamwHyperSize } from '../../../src/program/adamw.ts';
import { lowerFilled } from '../../../src/program/fill/lower.ts';
import { deviceId } from '../../../src/program/types.ts';
import { chainFeeds, mixedChain } from '../chains.ts';
import { encoderChain, fillItems, frozenParts, teacherChain } from '../filled.ts';
import { evaluateChain, seededWeights } from '../reference.ts';
import { compile, layout } from '../suite.ts';

const steps = 3;
const batch = 8;

function hyperOf(step: number): Tensor {
	const hyper = adamwHyper({ lr: 0.01, betas: [0.9, 0.99], eps: 1e-8, weightDecay: 0.01, step: step + 1, maxGradNorm: 1, emaDecay: 0 });
	return { dtype: 'float32', shape: [hyper.length], data: hyper };
}

test.each([
	['one device', layout([], '1f1b', 1, 2)],
	['two stages', layout([2], '1f1b', 1, 4)],
	['two stages, two pipelines', layout([2], '1f1b', 2, 2)],
])('%s: losses are those of training fed with frozen outputs from elsewhere', async (_, each) => {
	const { parts, given, traces } = frozenParts();
	const training = compile(mixedChain, each, { moments: 2, hyperSize: adamwHyperSize });
	const weights = seededWeights(training.banks.flatMap((b) => b.parameters));
	const frozenWeights = traces.map((trace) => seededWeights([...trace.parameters.values()], 11));
	const hosts = Array.from({ length: steps }, (_, k) => {
		const encoder = chainFeeds(encoderChain, batch, 100 + k);
		const { words } = chainFeeds(teacherChain, batch, 200 + k);
		const { label } = chainFeeds(mixedChain, batch, 300 + k);
		const z = evaluateChain(encoderChain, batch, frozenWeights[0]!, encoder).get('z')!;
		const target = evaluateChain(teacherChain, batch, frozenWeights[1]!, { z, words: words! }).get('target')!;
		const fed = { 'encoder.pixels': encoder.pixels!, 'encoder.noise': encoder.noise!, 'teacher.words': words! };
		return { label: label!, fed, x: z, target };
	});
	const write = (engine: Awaited<ReturnType<typeof createLocalEngine>>) => {
		for (const { device, banks } of engine.program.devices) {
			for (const { bank, parameters } of training.banks) {
				if (!banks.some(({ id }) => id === bank)) continue;
				for (const { name, offset } of parameters) engine.bank(device, bank, 'parameter').set(weights.get(name)!, offset);
			}
		}
	};
	const plain = await createLocalEngine(training, { update: adamwGraph(false) });
	const expected: Float32Array[] = [];
	try {
		write(plain);
		for (const [k, { x, target, label }] of hosts.entries())
			expected.push((await plain.run('iteration', { x, target, label, hyper: hyperOf(k) })).fetched.get('loss')!.data as Float32Array);
	} finally {
		await plain.close();
	}

	const devices = training.program.devices.length;
	const starts = (device: number) =>
		training.program.devices[device]!.iteration.flatMap((i) => (i.op === 'run' && i.action ? [i] : [])).map((_, i) => 9 * i + device);
	for (const items of fc.sample(fillItems(batch, devices, 50), { numRuns: 4, seed: 5 })) {
		const filled = lowerFilled(training, { parts, given, items, starts });
		const engine = await createLocalEngine(filled, { update: adamwGraph(false) });
		try {
			write(engine);
			for (const { device, part, layout: bank } of filled.frozenBanks) {
				const own = frozenWeights[parts.findIndex(({ name }) => name === part)]!;
				const buffer = engine.bank(deviceId(device), bank.bank, 'parameter');
				for (const { name, offset } of bank.parameters) buffer.set(own.get(name)!, offset);
			}
			await engine.run('prologue', hosts[0]!.fed);
			for (let k = 0; k < steps; k++) {
				const own = { label: hosts[k]!.label, hyper: hyperOf(k) };
				const last = k === steps - 1;
				const { fetched } = await engine.run(last ? 'epilogue' : 'iteration', last ? own : { ...own, ...hosts[k + 1]!.fed });
				const found = fetched.get('loss')!.data as Float32Array;
				expect(found.length).toBe(batch);
				for (let i = 0; i < batch; i++) expect(Math.abs(found[i]! / expected[k]![i]! - 1)).toBeLessThan(2e-5);
			}
		} finally {
			await engine.close();
		}
	}
});
