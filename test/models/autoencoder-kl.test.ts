import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import type { Tensor } from '../../src/core/tensor.ts';
import {
	autoencoderKLDecoderChain,
	autoencoderKLEncoderChain,
	latentFactor,
	readAutoencoderKLConfig,
} from '../../src/models/autoencoder-kl.ts';
import { traceChain } from '../../src/nn/chain.ts';
import { checkOutputs, checkTraining } from '../helpers/fixture.ts';
import { joinAutoencoder } from './join-autoencoder.ts';

const raw = JSON.parse(readFileSync(new URL('../fixtures/vae-kl/config.json', import.meta.url), 'utf8'));
const config = readAutoencoderKLConfig(raw);
const run = {
	folder: 'vae-kl',
	weights: 'diffusion_pytorch_model.safetensors',
	chain: joinAutoencoder(autoencoderKLEncoderChain(config), autoencoderKLDecoderChain(config)),
	output: 'sample',
	inputs: (io: ReadonlyMap<string, Tensor>) => ({ x: io.get('in.image')! }),
};
const shapeOf = (chain: typeof run.chain, output: string) => {
	const trace = traceChain(chain, 2);
	return trace.definitions.get(trace.outputs[chain.outputs.indexOf(output)]!)!.shape;
};

describe('AutoencoderKL', () => {
	it('gives the reference moments and decodes their mean to the reference image', async () => {
		await checkOutputs(run, { mean: 'mean', logvar: 'logvar', sample: 'decoded' }, 1e-5);
	});

	it('agrees with the reference loss and every gradient on one device', async () => {
		await checkTraining({ ...run, cuts: [] }, 1e-4);
	});

	it('agrees when cut inside encoder and decoder', async () => {
		const at = (name: string) => run.chain.layers.findIndex((layer) => layer.name === name);
		await checkTraining({ ...run, cuts: [at('encoder.mid_block.attentions.0'), at('decoder.up_blocks.0.upsamplers.0')] }, 1e-4);
	});

	it('takes images and latents of other sizes', () => {
		expect(latentFactor(config)).toBe(2);
		const encoder = autoencoderKLEncoderChain(config, { height: 48, width: 20 });
		expect(shapeOf(encoder, 'mean')).toEqual([2, 4, 24, 10]);
		expect(shapeOf(encoder, 'logvar')).toEqual([2, 4, 24, 10]);
		expect(shapeOf(autoencoderKLDecoderChain(config, { height: 24, width: 10 }), 'sample')).toEqual([2, 3, 48, 20]);
		expect(autoencoderKLDecoderChain(readAutoencoderKLConfig({ ...raw, sample_size: [64, 32] })).inputs.z!.shape).toEqual([4, 32, 16]);
	});

	it('refuses block types it does not implement, naming them', () => {
		const attentive = readAutoencoderKLConfig({ ...raw, down_block_types: ['DownEncoderBlock2D', 'AttnDownEncoderBlock2D'] });
		expect(() => autoencoderKLEncoderChain(attentive)).toThrow(/AttnDownEncoderBlock2D is not known/);
		expect(() => readAutoencoderKLConfig({ ...raw, block_out_channels: 16 })).toThrow(/block_out_channels/);
	});
});
