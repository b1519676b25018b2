import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { type Tensor, tensor, toNumbers } from '../../src/core/tensor.ts';
import { controlNetChain, readControlNetConfig } from '../../src/models/controlnet.ts';
import { readUNetConditionConfig, unetConditionChain } from '../../src/models/unet-condition.ts';
import { traceChain } from '../../src/nn/chain.ts';
import { checkOutputs, checkTraining } from '../helpers/fixture.ts';

const raw = JSON.parse(readFileSync(new URL('../fixtures/controlnet/config.json', import.meta.url), 'utf8'));
const chain = controlNetChain(readControlNetConfig(raw), { height: 16, width: 16, tokens: 7 });
const run = {
	folder: 'controlnet',
	weights: 'diffusion_pytorch_model.safetensors',
	chain,
	output: 'mid_block_additional_residual',
	inputs: (io: ReadonlyMap<string, Tensor>) => {
		const timestep = io.get('in.timestep')!;
		return {
			sample: io.get('in.sample')!,
			timestep: tensor('float32', timestep.shape, toNumbers(timestep)),
			encoder_hidden_states: io.get('in.encoder_hidden_states')!,
			controlnet_cond: io.get('in.controlnet_cond')!,
		};
	},
};

describe('ControlNetModel', () => {
	it('gives the reference residuals', async () => {
		const outputs = {
			down_block_additional_residual_0: 'down0',
			down_block_additional_residual_1: 'down1',
			down_block_additional_residual_2: 'down2',
			down_block_additional_residual_3: 'down3',
			mid_block_additional_residual: 'mid',
		};
		expect(chain.outputs).toEqual(Object.keys(outputs));
		await checkOutputs(run, outputs, 1e-5);
	});

	it('agrees with the reference loss and every gradient on one device', async () => {
		await checkTraining({ ...run, cuts: [] }, 1e-4);
	});

	it('agrees when cut beside conv_in and inside the middle', async () => {
		const at = (name: string) => chain.layers.findIndex((layer) => layer.name === name);
		await checkTraining({ ...run, cuts: [at('conv_in'), at('mid_block.attentions.0')] }, 1e-4);
	});

	it('gives what the U-Net beside it takes, by name and shape', () => {
		const unet = unetConditionChain(readUNetConditionConfig(configOfUNet()), { residuals: 'maps', height: 16, width: 16, tokens: 7 });
		const trace = traceChain(chain, 3);
		for (const id of trace.outputs) {
			const { name, shape } = trace.definitions.get(id)!;
			expect(unet.inputs[name]?.shape, name).toEqual(shape.slice(1));
		}
		const residuals = Object.keys(unet.inputs).filter((name) => name.includes('additional_residual'));
		expect(residuals).toEqual(chain.outputs);
	});

	it('refuses what it does not implement, and a size that is not given', () => {
		expect(() => readControlNetConfig({ ...raw, addition_embed_type: 'text' })).toThrow(/addition_embed_type/);
		expect(() => readControlNetConfig({ ...raw, encoder_hid_dim: 8 })).toThrow(/encoder_hid_dim/);
		expect(() => controlNetChain(readControlNetConfig(raw), {})).toThrow(/sample size is not given/);
	});
});

function configOfUNet(): unknown {
	return JSON.parse(readFileSync(new URL('../fixtures/unet-sd/config.json', import.meta.url), 'utf8'));
}
