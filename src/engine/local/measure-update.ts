/** @file Measures the optimiser's step on this machine. */
import { type Chain, traceChain } from '../../nn/chain.ts';
import { scheduleByName } from '../../plan/schedules/index.ts';
import { adamwGraph, adamwHyper, adamwHyperSize } from '../../program/adamw.ts';
import { lowerTraining } from '../../program/lower.ts';
import { createLocalEngine } from './engine.ts';

/** Several times what caches hold: parameters, gradients and moments of a model are not in them either. */
const elements = 2 ** 22;

/** A layer of nothing but weights. */
const probe: Chain = {
	name: 'update',
	inputs: { x: { dtype: 'float32', shape: [] } },
	layers: [
		{
			name: 'weights',
			path: '',
			build(ctx, live) {
				const weight = ctx.param('weight', [elements], { kind: 'zeros' });
				live.set('loss', ctx.g.reduceSum(ctx.g.mul(weight, live.get('x')), [0], true));
			},
		},
	],
	outputs: ['loss'],
};

/** ms per parameter of an AdamW step on one device, the median of `repeats`; `average`: with a moving average of the weights. */
export async function measureUpdate({ average = false, repeats = 5, threads = 1 } = {}): Promise<number> {
	const compiled = lowerTraining(traceChain(probe, 1), {
		cuts: [],
		replicas: 1,
		microBatches: 1,
		microBatchSize: 1,
		schedule: scheduleByName('1f1b', 'schedule')({ stages: 1, microBatches: 1 }),
		moments: average ? 3 : 2,
		hyperSize: adamwHyperSize,
	});
	const engine = await createLocalEngine(compiled, { update: adamwGraph(average), threads });
	try {
		const hyper = adamwHyper({ lr: 1e-3, betas: [0.9, 0.999], eps: 1e-8, weightDecay: 0, step: 1, maxGradNorm: 1, emaDecay: 0.99 });
		const feeds = {
			x: { dtype: 'float32', shape: [1], data: Float32Array.of(1) },
			hyper: { dtype: 'float32', shape: [hyper.length], data: hyper },
		} as const;
		const times: number[] = [];
		// The first touches memory for the first time.
		for (let r = 0; r <= repeats; r++) {
			const { timeline } = await engine.run('iteration', feeds, { trace: true });
			const spans = timeline!.devices.flatMap((d) => d.spans.filter((s) => s.kind === 'update'));
			times.push(spans.reduce((sum, s) => sum + s.end - s.start, 0));
		}
		const warm = times.slice(1).sort((a, b) => a - b);
		return warm[warm.length >> 1]! / elements;
	} finally {
		await engine.close();
	}
}
