/** @file What others measured, against the roofline with the efficiencies that were fitted to it. */
import { describe, expect, it } from 'vitest';
import { autoencoderKLDecoderChain, readAutoencoderKLConfig } from '../../../src/models/autoencoder-kl.ts';
import type { Chain } from '../../../src/nn/chain.ts';
import { acceleratorByName, measuredEfficiency } from '../../../src/plan/analytic/accelerators.ts';
import { frozenWork } from '../../../src/plan/analytic/chain-work.ts';
import { fitEfficiency, type MeasuredPoint, predictMs } from '../../../src/plan/analytic/fit.ts';
import { sd15UNet } from '../../../src/plan/analytic/jobs/stable-diffusion.ts';
import { namedJob } from '../../../src/plan/analytic/named-jobs.ts';
import { addWork } from '../../../src/plan/analytic/work.ts';

const a100 = acceleratorByName('A100-80');
const forwardOf = (chain: Chain) => addWork(...frozenWork('part', chain).layers.map((l) => l.forward));
const decoder = readAutoencoderKLConfig({
	block_out_channels: [128, 256, 512, 512],
	down_block_types: new Array(4).fill('DownEncoderBlock2D'),
	up_block_types: new Array(4).fill('UpDecoderBlock2D'),
	layers_per_block: 2,
	sample_size: 512,
});
const unet = forwardOf(sd15UNet());
const decode = forwardOf(autoencoderKLDecoderChain(decoder));
const control = namedJob('controlnet');
const trained = addWork(...control.backbones[0]!.layers.flatMap((l) => [l.forward, l.backwardInput, l.backwardWeight]));
const frozen = addWork(...control.frozen.flatMap((f) => f.layers.map((l) => l.forward)));
/** AdamW over 361M parameters, 28 bytes each. */
const updateMs = (361.28e6 * 28 * 1000) / (a100.memoryBandwidth * a100.efficiency.memory);

/** A picture of Stable Diffusion 1.5: 51 evaluations (PNDM at 50 steps) with and without the text, then the decoder. */
const sampling = (images: number, seconds: number): MeasuredPoint => ({
	passes: [
		{ work: unet, samples: 2 * images, times: 51 },
		{ work: decode, samples: images },
	],
	ms: 1000 * seconds,
});
const training = (batch: number, imagesPerSecond: number): MeasuredPoint => ({
	passes: [trained, frozen].map((work) => ({ work, samples: batch })),
	ms: (1000 * batch) / imagesPerSecond - updateMs,
});
/** Iterations per second of the denoising loop. */
const loop = (images: number, rate: number): MeasuredPoint => ({ passes: [{ work: unet, samples: 2 * images }], ms: 1000 / rate });
const off = (point: MeasuredPoint, name: string) => predictMs(point, acceleratorByName(name)) / point.ms;

/** diffusers, documentation of PyTorch 2.0 at pull request 2764: A100, float16, seconds with scaled_dot_product_attention. */
const diffusers = [
	[4, 3.89],
	[8, 7.04],
	[10, 8.67],
	[16, 13.55],
	[32, 26.68],
	[64, 53.03],
].map(([n, s]) => sampling(n!, s!));

/** NVIDIA NeMo 24.12, performance of ControlNet: one A100, flash attention, channels last, inductor. */
const nemo = [training(8, 21.52), training(32, 27.2)];

describe('the efficiencies of the table', () => {
	it('are those fitted to the published times', () => {
		const start = { ...a100, efficiency: { conv: 0.45, matmul: 0.5, attention: 0.4, memory: 0.75, kernelMs: 0.008 } };
		const fit = fitEfficiency([...diffusers, ...nemo], start, { keys: ['conv', 'matmul', 'attention', 'kernelMs'] });
		for (const key of ['conv', 'matmul', 'attention', 'kernelMs'] as const)
			expect(fit.efficiency[key] / measuredEfficiency[key], key).toBeCloseTo(1, 1);
		expect(fit.error).toBeLessThan(0.05);
	});

	it('give sampling within 5 % and training within 10 %', () => {
		for (const point of diffusers) expect(Math.abs(Math.log(off(point, 'A100-80')))).toBeLessThan(0.05);
		for (const point of nemo) expect(Math.abs(Math.log(off(point, 'A100-80')))).toBeLessThan(0.1);
	});

	it('carry over to another accelerator: V100, diffusers 0.17, PyTorch 2.0, within 25 %', () => {
		for (const point of [loop(4, 5.96), loop(16, 1.66)]) expect(Math.abs(Math.log(off(point, 'V100')))).toBeLessThan(0.25);
	});
});
