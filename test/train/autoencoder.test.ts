import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { sizeOf, tensor } from '../../src/core/tensor.ts';
import { readAutoencoderKLConfig } from '../../src/models/autoencoder-kl.ts';
import { stageGraph, traceChain } from '../../src/nn/chain.ts';
import { autoencoderTrainingChain, trainAutoencoder } from '../../src/train/autoencoder.ts';
import { readSessionConfig } from '../../src/train/config.ts';
import { initialValues } from '../../src/train/parameters.ts';
import { runForward } from '../helpers/fixture.ts';
import { tinyData } from '../helpers/tiny-run.ts';

const model = readAutoencoderKLConfig({
	in_channels: 1,
	out_channels: 1,
	sample_size: 8,
	block_out_channels: [8, 16],
	down_block_types: ['DownEncoderBlock2D', 'DownEncoderBlock2D'],
	up_block_types: ['UpDecoderBlock2D', 'UpDecoderBlock2D'],
	norm_num_groups: 4,
	latent_channels: 2,
});

let tiny: Awaited<ReturnType<typeof tinyData>>;
beforeAll(async () => {
	tiny = await tinyData();
});
afterAll(() => tiny.remove());

describe('autoencoderTrainingChain', () => {
	it('adds up the errors of the decoded posterior sample and its divergence, over the global batch', async () => {
		const objective = { l1Weight: 0.5, mseWeight: 2, klWeight: 0.1 };
		const chain = autoencoderTrainingChain(model, objective, 6);
		const values = (count: number, f: (i: number) => number) => Array.from({ length: count }, (_, i) => f(i));
		const x = tensor(
			'float32',
			[2, 1, 8, 8],
			values(128, (i) => Math.sin(i)),
		);
		const noise = tensor(
			'float32',
			[2, 2, 4, 4],
			values(64, (i) => Math.cos(3 * i)),
		);
		const parts = ['mean', 'logvar', 'z', 'sample', 'loss'];
		const found = await runForward({ ...chain, outputs: parts }, (p) => initialValues(p, 3), { x, noise });
		const [mean, logvar, z, sample, loss] = parts.map((name) => found.get(name)!.data as Float32Array) as [
			Float32Array,
			Float32Array,
			Float32Array,
			Float32Array,
			Float32Array,
		];
		z.forEach((v, i) => {
			expect(v).toBeCloseTo(mean[i]! + Math.exp(logvar[i]! / 2) * noise.data[i]!, 5);
		});
		const over = (n: number, f: (i: number) => number) => values(n, f).reduce((a, b) => a + b, 0) / n;
		const l1 = over(128, (i) => Math.abs(sample[i]! - x.data[i]!));
		const mse = over(128, (i) => (sample[i]! - x.data[i]!) ** 2);
		const kl = over(64, (i) => 0.5 * (mean[i]! ** 2 + Math.exp(logvar[i]!) - 1 - logvar[i]!));
		expect(loss[0]).toBeCloseTo((2 / 6) * (0.5 * l1 + 2 * mse + 0.1 * kl), 5);
	});

	it('has the parameters of both halves, and can be cut between any two layers', () => {
		const chain = autoencoderTrainingChain(model, { l1Weight: 1, mseWeight: 1, klWeight: 0 }, 2);
		const trace = traceChain(chain, 2);
		const roots = new Set([...trace.parameters.keys()].map((name) => name.split('.')[0]));
		expect([...roots].sort()).toEqual(['decoder', 'encoder', 'post_quant_conv', 'quant_conv']);
		for (let cut = 1; cut < chain.layers.length; cut++) {
			expect(stageGraph(trace, 0, cut).sends.length, chain.layers[cut]!.name).toBeGreaterThan(0);
		}
	});
});

describe('trainAutoencoder', () => {
	const options = (over: { steps?: number; parallel?: object } = {}) => ({
		config: readSessionConfig({
			train: { max_steps: over.steps ?? 40, batch_size: 8, ema_decay: 0 },
			optimizer: { lr: 5e-3, weight_decay: 0 },
			parallel: over.parallel,
		}),
		data: { type: 'folder', path: tiny.data, height: 8, width: 8, channels: 1 } as const,
		seed: 1,
	});
	const objective = { l1Weight: 1, mseWeight: 1, klWeight: 1e-4 };

	it('learns to reproduce a few pictures', async () => {
		const losses: number[] = [];
		const weights = await trainAutoencoder(model, objective, { ...options(), onStep: ({ loss }) => losses.push(loss) });
		expect(losses).toHaveLength(40);
		const last = losses.slice(-5).reduce((a, b) => a + b, 0) / 5;
		expect(last).toBeLessThan(0.5 * losses[0]!);
		for (const [name, { shape, data }] of weights) expect(data.length, name).toBe(sizeOf(shape));
	});

	it('gives the same losses on a pipeline of two devices, and stops when told', async () => {
		const run = async (parallel: object) => {
			const losses: number[] = [];
			const controller = new AbortController();
			const onStep = ({ step, loss }: { step: number; loss: number }) => {
				losses.push(loss);
				if (step === 3) controller.abort();
			};
			await trainAutoencoder(model, objective, { ...options({ parallel }), onStep, signal: controller.signal });
			return losses;
		};
		const one = await run({});
		const two = await run({ pipeline_stages: 2, partition_method: 'manual', partition_split: [5] });
		expect(one).toHaveLength(3);
		two.forEach((loss, i) => {
			expect(Math.abs(loss - one[i]!) / one[i]!).toBeLessThan(1e-4);
		});
	});

	it('refuses images of another size before any work', async () => {
		const wrong = { ...options(), data: { ...options().data, height: 16 } };
		await expect(trainAutoencoder(model, objective, wrong)).rejects.toThrow(/images do not fit the model[\s\S]*1, 8, 8/);
	});
});
