/** @file Thousands of steps leave memory as it was: native values are given back one by one, and nothing grows. */
import { expect, it } from 'vitest';
import { tensor } from '../../../src/core/tensor.ts';
import { createLocalEngine } from '../../../src/engine/local/engine.ts';
import type { Chain, Layer } from '../../../src/nn/chain.ts';
import { adamwGraph, adamwHyper, adamwHyperSize } from '../../../src/program/adamw.ts';
import { chainFeeds } from '../chains.ts';
import { collectiveProgram } from '../collective-program.ts';
import { compile, layout } from '../suite.ts';

const mebibyte = 2 ** 20;

/** Least of a few looks at resident memory: what a collection has not swept yet does not count. */
async function resident(): Promise<number> {
	const looks: number[] = [];
	for (let i = 0; i < 5; i++) {
		await new Promise((resolve) => setTimeout(resolve, 20));
		looks.push(process.memoryUsage().rss);
	}
	return Math.min(...looks);
}

/** Cheap layers over 32 KiB of activations, so that a tensor left behind each step is 128 MiB after 4000. */
const width = 2048;
const scaleLayers = [0, 1, 2, 3].map(
	(i): Layer => ({
		name: `${i}`,
		build: (ctx, live) => live.set('x', ctx.g.tanh(ctx.g.mul(live.get('x'), ctx.param('scale', [width], { kind: 'ones' })))),
	}),
);
const wideChain: Chain = {
	name: 'wide',
	inputs: { x: { dtype: 'float32', shape: [width] } },
	layers: [...scaleLayers, { name: 'loss', build: ({ g }, live) => live.set('loss', g.reduceSumSquare(live.get('x'), [1], false)) }],
	outputs: ['loss'],
};

const hyper = (step: number) =>
	tensor(
		'float32',
		[adamwHyperSize],
		adamwHyper({ lr: 1e-3, betas: [0.9, 0.999], eps: 1e-8, weightDecay: 0.01, step, maxGradNorm: 1, emaDecay: 0.99 }),
	);

it('training on two devices', async () => {
	const compiled = compile(wideChain, layout([2], '1f1b', 1, 2), { moments: 3, hyperSize: adamwHyperSize });
	const engine = await createLocalEngine(compiled, { update: adamwGraph(true) });
	try {
		const feeds = chainFeeds(wideChain, 8);
		const run = async (from: number, to: number) => {
			const values = new Set<number>();
			for (let step = from; step < to; step++) {
				const { fetched, nativeValues } = await engine.run('iteration', { ...feeds, hyper: hyper(step) });
				expect(fetched.size).toBe(2);
				values.add(nativeValues);
			}
			return [...values];
		};
		const [held, ...others] = await run(1, 1500);
		expect(others).toEqual([]);
		const before = await resident();
		expect(await run(1500, 5500)).toEqual([held]);
		// Heaps of three threads still settle by some MiB.
		expect(((await resident()) - before) / mebibyte).toBeLessThan(16);
	} finally {
		await engine.close();
	}
});

it('collectives and messages', async () => {
	const { compiled, feeds } = collectiveProgram();
	const engine = await createLocalEngine(compiled);
	try {
		await engine.run('prologue', feeds(0));
		const run = async (steps: number) => {
			const values = new Set<number>();
			for (let step = 0; step < steps; step++) values.add((await engine.run('iteration', feeds(step))).nativeValues);
			return [...values];
		};
		// The slot that the prologue fed, on each of three devices.
		expect(await run(1000)).toEqual([3]);
	} finally {
		await engine.close();
	}
});
