import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { type Tensor, tensor, toNumbers } from '../../src/core/tensor.ts';
import { trainingChain } from '../../src/diffusion/objective.ts';
import { createDenoiser } from '../../src/models/index.ts';
import { readUNetConfig, unetChain } from '../../src/models/unet.ts';
import { traceChain } from '../../src/nn/chain.ts';
import { checkOutputs, checkTraining } from '../helpers/fixture.ts';

const raw = JSON.parse(readFileSync(new URL('../fixtures/unet-ddpm/config.json', import.meta.url), 'utf8'));
const run = {
	folder: 'unet-ddpm',
	weights: 'diffusion_pytorch_model.safetensors',
	chain: unetChain(readUNetConfig(raw)),
	output: 'sample',
	inputs: (io: ReadonlyMap<string, Tensor>) => {
		const timestep = io.get('in.timestep')!;
		return { sample: io.get('in.sample')!, timestep: tensor('float32', timestep.shape, toNumbers(timestep)) };
	},
};

describe('UNet2DModel', () => {
	it('gives the reference output', async () => {
		await checkOutputs(run, { sample: 'sample' }, 1e-5);
	});

	it('agrees with the reference loss and every gradient on one device', async () => {
		await checkTraining({ ...run, cuts: [] }, 1e-4);
	});

	it('agrees when cut before the skip of conv_in is joined and between residual block and attention', async () => {
		const at = (name: string) => run.chain.layers.findIndex((layer) => layer.name === name);
		await checkTraining({ ...run, cuts: [at('down_blocks.1.attentions.0'), at('up_blocks.1.resnets.1')] }, 1e-4);
	});

	it('has every residual block, attention and resampling as a layer', () => {
		expect(run.chain.layers.map((layer) => layer.name)).toEqual([
			'time_embedding',
			'conv_in',
			'down_blocks.0.resnets.0',
			'down_blocks.0.downsamplers.0',
			'down_blocks.1.resnets.0',
			'down_blocks.1.attentions.0',
			'mid_block.resnets.0',
			'mid_block.attentions.0',
			'mid_block.resnets.1',
			'up_blocks.0.resnets.0',
			'up_blocks.0.attentions.0',
			'up_blocks.0.resnets.1',
			'up_blocks.0.attentions.1',
			'up_blocks.0.upsamplers.0',
			'up_blocks.1.resnets.0',
			'up_blocks.1.resnets.1',
			'conv_out',
		]);
	});

	it('is built for another size than the config says', () => {
		const { chain } = createDenoiser('UNet2DModel', raw, undefined, { height: 24, width: 8 });
		expect(chain.inputs.sample!.shape).toEqual([3, 24, 8]);
		expect(() => unetChain(readUNetConfig({ ...raw, sample_size: null }))).toThrow(/sample size is not given/);
	});

	it('predicts from the noised sample, though its input and output share a name', () => {
		const trace = traceChain(trainingChain(run.chain, { sample: 'sample', output: 'sample', globalBatch: 2 }), 2);
		const index = (name: string) => trace.chain.layers.findIndex((layer) => layer.name === name);
		expect(trace.layers[index('conv_in')]!.reads).toEqual([`sample@${index('noising')}`]);
		expect(trace.layers[index('loss')]!.reads).toContain(`sample@${index('conv_out')}`);
	});

	it('takes the last row of its class table for no class', () => {
		const denoiser = createDenoiser('UNet2DModel', { ...raw, num_class_embeds: 11 });
		expect(denoiser.labels).toEqual({ input: 'class_labels', none: 10 });
		expect(denoiser.conditioning).toEqual({});
	});

	it('refuses what it does not implement, naming it', () => {
		expect(() => readUNetConfig({ ...raw, time_embedding_type: 'fourier' })).toThrow(/time_embedding_type/);
		expect(() => readUNetConfig({ ...raw, block_out_channel: [8] })).toThrow(/did you mean block_out_channels/);
		const types = ['DownBlock2D', 'AttnDownBlock'];
		expect(() => unetChain(readUNetConfig({ ...raw, down_block_types: types }))).toThrow(/did you mean AttnDownBlock2D/);
		const cross = ['DownBlock2D', 'CrossAttnDownBlock2D'];
		expect(() => unetChain(readUNetConfig({ ...raw, down_block_types: cross }))).toThrow(/CrossAttnDownBlock2D is not known/);
		expect(() => unetChain(readUNetConfig({ ...raw, up_block_types: ['UpBlock2D'] }))).toThrow(/up_block_types does not fit/);
		expect(() => unetChain(readUNetConfig({ ...raw, attention_head_dim: 64 }))).toThrow(/attention_head_dim/);
		expect(() => traceChain(unetChain(readUNetConfig({ ...raw, norm_num_groups: 7 })), 1)).toThrow(/down_blocks.0.resnets.0.norm1/);
	});
});
