/** @file Profiles measured here, of models small enough that it takes seconds. Times are only held to what cannot be otherwise. */
import { beforeAll, describe, expect, it } from 'vitest';
import { trainingChain } from '../../../src/diffusion/objective.ts';
import { measureGraphs } from '../../../src/engine/local/measure.ts';
import { measureUpdate } from '../../../src/engine/local/measure-update.ts';
import { measureProfile } from '../../../src/engine/local/profile.ts';
import { createBuilder } from '../../../src/graph/builder.ts';
import { autoencoderKLEncoderChain, readAutoencoderKLConfig } from '../../../src/models/autoencoder-kl.ts';
import { readUNetConfig, unetChain } from '../../../src/models/unet.ts';
import { freezeLayers } from '../../../src/nn/freeze.ts';
import type { JobChains } from '../../../src/plan/analytic/chain-work.ts';
import { readProfile } from '../../../src/plan/profile/read.ts';
import type { Profile } from '../../../src/plan/profile/types.ts';

const unet = unetChain(
	readUNetConfig({
		sample_size: 8,
		in_channels: 4,
		out_channels: 4,
		block_out_channels: [32, 64],
		down_block_types: ['DownBlock2D', 'AttnDownBlock2D'],
		up_block_types: ['AttnUpBlock2D', 'UpBlock2D'],
		layers_per_block: 1,
	}),
);
const vae = autoencoderKLEncoderChain(
	readAutoencoderKLConfig({
		block_out_channels: [32, 32],
		down_block_types: ['DownEncoderBlock2D', 'DownEncoderBlock2D'],
		up_block_types: ['UpDecoderBlock2D', 'UpDecoderBlock2D'],
		sample_size: 16,
	}),
);
const job: JobChains = {
	name: 'small',
	backbones: [
		{
			name: 'unet',
			chain: freezeLayers(trainingChain(unet, { sample: 'sample', output: 'sample', globalBatch: 8 }), (name) =>
				name.startsWith('up_blocks.1'),
			),
			losses: ['loss'],
		},
	],
	frozen: [{ name: 'vae', chain: vae }],
};

describe('measureProfile', () => {
	let profile: Profile;
	const heard: string[] = [];
	beforeAll(async () => {
		profile = await measureProfile(job, {
			batchSizes: [1, 16],
			repeats: 3,
			average: true,
			onProgress: (what, done, total) => heard.push(`${what} ${done === total ? 'done' : ''}`),
		});
	});
	const layer = (name: string) => profile.backbones[0]!.layers.find((l) => l.name === name)!;

	it('gives a profile that may be read, of every layer', () => {
		expect(readProfile(JSON.parse(JSON.stringify(profile)))).toEqual(profile);
		expect(profile.batchSizes).toEqual([1, 16]);
		expect(profile.backbones[0]!.layers.map((l) => l.name)).toEqual(job.backbones[0]!.chain.layers.map((l) => l.name));
		expect(profile.frozen[0]!.layers.map((l) => l.name)).toEqual(vae.layers.map((l) => l.name));
	});

	it('measures times that grow with the batch, and a backward where there is one', () => {
		const convolving = profile.backbones[0]!.layers.filter((l) => l.name.includes('resnets'));
		expect(convolving.length).toBeGreaterThan(5);
		for (const { name, forwardMs, backwardInputMs, backwardWeightMs } of convolving) {
			expect(forwardMs[0], name).toBeGreaterThan(0);
			expect(forwardMs[1], name).toBeGreaterThan(forwardMs[0]!);
			expect(backwardInputMs[1], name).toBeGreaterThan(0);
			expect(backwardWeightMs[1], name).toBeGreaterThanOrEqual(0);
		}
		for (const { forwardMs } of profile.frozen[0]!.layers.filter((l) => l.name.includes('resnets')))
			expect(forwardMs[1]).toBeGreaterThan(forwardMs[0]!);
		// Nothing before the first convolution wants a gradient, and nothing in the noising does.
		expect(layer('conv_in').backwardInputMs).toEqual([0, 0]);
		expect(layer('conv_in').backwardWeightMs[1]).toBeGreaterThan(0);
		expect([layer('noising').backwardInputMs, layer('noising').backwardWeightMs]).toEqual([
			[0, 0],
			[0, 0],
		]);
		expect(layer('loss').backwardInputMs[1]).toBeGreaterThan(0);
	});

	it('takes no time for the weights of frozen layers, and holds no gradient of them', () => {
		const frozen = profile.backbones[0]!.layers.filter((l) => l.name.startsWith('up_blocks.1'));
		expect(frozen.length).toBeGreaterThan(1);
		for (const { name, backwardInputMs, backwardWeightMs, gradBytes, optimizerBytes, paramBytes, updateMs } of frozen) {
			expect(backwardInputMs[1], name).toBeGreaterThan(0);
			expect([backwardWeightMs, gradBytes, optimizerBytes, updateMs], name).toEqual([[0, 0], 0, 0, 0]);
			expect(paramBytes, name).toBeGreaterThan(0);
		}
	});

	it('counts bytes', () => {
		// 4 x 32 x 3 x 3 weights and 32 biases; three moments with the moving average. Its result is a skip, and so the only thing sent with the embedding.
		const parameters = 4 * (4 * 32 * 9 + 32);
		const map = 4 * 32 * 8 * 8;
		expect(layer('conv_in')).toMatchObject({ paramBytes: parameters, gradBytes: parameters, optimizerBytes: 3 * parameters });
		expect(layer('conv_in').cutBytes).toBe(map + 4 * 128);
		expect(layer('conv_in').activationBytes).toBe(4 * 4 * 8 * 8);
		expect(layer('conv_in').updateMs).toBeGreaterThan(0);
		const { layers, skips } = profile.backbones[0]!;
		expect(skips!.map(({ from, to, bytes }) => [layers[from]!.name, layers[to]!.name, bytes])).toContainEqual([
			'conv_in',
			'up_blocks.1.resnets.1',
			map,
		]);
		expect(profile.frozen[0]!.layers.at(-1)).toMatchObject({ name: 'quant_conv', outputBytes: 4 * 8 * 8 * 8, paramBytes: 4 * (64 + 8) });
	});

	it('says how far it is', () => {
		expect(heard).toContain('unet at 1 sample done');
		expect(heard).toContain('unet at 16 samples done');
		expect(heard.at(-1)).toBe('vae at 16 samples done');
	});

	it('refuses what are no batch sizes', async () => {
		for (const batchSizes of [[], [0], [2, 1], [1.5]])
			await expect(measureProfile(job, { batchSizes })).rejects.toThrow(/batch sizes: are no batch sizes/);
	});
});

describe('measureUpdate', () => {
	it('gives a time per parameter', async () => {
		const ms = await measureUpdate({ repeats: 3 });
		// From 0.1 to 100 ns: an order of magnitude around what memory and arithmetic of any machine allow.
		expect(ms).toBeGreaterThan(1e-7);
		expect(ms).toBeLessThan(1e-4);
	});
});

describe('measureGraphs', () => {
	it('says how many graphs of different structure are done', async () => {
		const product = (size: number) => {
			const g = createBuilder('product');
			return g.finish([g.matMul(g.input('a', 'float32', [size, size]), g.input('b', 'float32', [size, size]))]);
		};
		const heard: string[] = [];
		const ms = await measureGraphs([product(8), product(256), product(8)], { onMeasured: (done, total) => heard.push(`${done}/${total}`) });
		expect(heard).toEqual(['1/2', '2/2']);
		expect(ms[0]).toBe(ms[2]);
		expect(ms[1]).toBeGreaterThan(ms[0]!);
	});
});
