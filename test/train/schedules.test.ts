/** @file Sessions under every schedule that a config can name: the same losses as on one device. */
import { expect, test } from 'vitest';
import { readSessionConfig } from '../../src/train/config.ts';
import { hyperOf, openSession } from '../../src/train/session.ts';
import { chainFeeds, skipChain } from '../engine/chains.ts';

const lossesUnder = async (parallel: Record<string, unknown>) => {
	const train = { max_steps: 2, batch_size: 8, gradient_accumulation_steps: 4, ema_decay: 0 };
	const config = readSessionConfig({ train, optimizer: { lr: 0.01 }, parallel });
	const session = await openSession(skipChain, config, { average: false, seed: 1 });
	try {
		const losses: number[] = [];
		for (let step = 0; step < 2; step++)
			losses.push((await session.step(chainFeeds(skipChain, 8, step), hyperOf(config, step).hyper)).loss);
		return { losses, devices: session.plan.compiled.program.devices.length, cuts: session.plan.cuts };
	} finally {
		await session.close();
	}
};

test.each<[Record<string, unknown>, number, number]>([
	[{ pipeline_stages: 2, pipeline_schedule: 'zero-bubble' }, 2, 1],
	[{ pipeline_stages: 2, pipeline_schedule: 'interleaved-1f1b', virtual_pipeline_model_parallel_size: 3 }, 2, 5],
	[{ pipeline_stages: 2, pipeline_schedule: 'gpipe', placement: 'folded', partition_method: 'manual', partition_split: [4, 8, 12] }, 2, 3],
	[{ pipeline_stages: 2, replicas: [1, 2] }, 3, 1],
])('%o', async (parallel, devices, cuts) => {
	const alone = await lossesUnder({});
	const found = await lossesUnder(parallel);
	expect(found.devices).toBe(devices);
	expect(found.cuts).toHaveLength(cuts);
	found.losses.forEach((loss, step) => {
		expect(Math.abs(loss / alone.losses[step]! - 1)).toBeLessThan(1e-4);
	});
});

test.each<[Record<string, unknown>, RegExp]>([
	[{ pipeline_stages: 2, pipeline_schedule: 'bidirectional' }, /schedule bidirectional: another number of backbones/],
	[{ pipeline_stages: 2, pipeline_schedule: 'interleaved-1f1b', placement: 'folded' }, /schedule interleaved-1f1b: another placement/],
	[{ pipeline_stages: 2, pipeline_schedule: 'zero-bubbel' }, /^parallel\.pipeline_schedule: unknown schedule[\s\S]*try: zero-bubble/],
	[{ pipeline_stages: 2, replicas: [1, 2, 1] }, /^parallel\.replicas: does not fit the number of ranks\n {2}expected: 2 numbers/],
	[
		{ pipeline_stages: 2, replicas: [1, 3] },
		/^parallel\.replicas: a rank has more devices than a micro-batch has samples\n {2}expected: at most 2/,
	],
	[
		{ pipeline_stages: 2, placement: 'folded', partition_method: 'manual', partition_split: [4] },
		/^parallel\.partition_split[\s\S]*3 layer numbers/,
	],
	[{ pipeline_stages: 9, placement: 'folded' }, /more stages than layers\n {2}expected: at most 17 stages\n {2}found: 18/],
])('refuses %o', async (parallel, message) => {
	await expect(lossesUnder(parallel)).rejects.toThrow(message);
});
