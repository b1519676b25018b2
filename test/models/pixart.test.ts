import { describe, expect, it } from 'vitest';
import { createDenoiser } from '../../src/models/index.ts';
import { pixartChain, readPixArtConfig } from '../../src/models/pixart.ts';
import { traceChain } from '../../src/nn/chain.ts';
import { checkOutputs, checkTraining } from '../helpers/fixture.ts';
import { fixtureConfig, inputsOf } from '../helpers/fixture-inputs.ts';

const weights = 'diffusion_pytorch_model.safetensors';
const plain = pixartChain(readPixArtConfig(fixtureConfig('pixart')), { tokens: 5 });
const run = { folder: 'pixart', weights, chain: plain, output: 'sample', inputs: inputsOf(plain) };

const sizedOptions = { height: 8, width: 12, tokens: 4, attentionMask: true };
const sized = createDenoiser('PixArtTransformer2DModel', fixtureConfig('pixart-sized'), 'pixart-sized', sizedOptions);
const sizedRun = { folder: 'pixart-sized', weights, chain: sized.chain, output: 'sample', inputs: inputsOf(sized.chain) };

describe('PixArtTransformer2DModel', () => {
	it('gives the reference output', async () => {
		await checkOutputs(run, { sample: 'sample' }, 1e-4);
	});

	it('agrees with the reference loss and every gradient on one device', async () => {
		await checkTraining({ ...run, cuts: [] }, 1e-3);
	});

	it('agrees when cut between conditioning and captions, and between the blocks', async () => {
		await checkTraining({ ...run, cuts: [2, 4] }, 1e-3);
	});

	it('agrees with size conditions, a text mask and a latent that is not square', async () => {
		expect(Object.keys(sized.conditioning).sort()).toEqual([
			'aspect_ratio',
			'encoder_attention_mask',
			'encoder_hidden_states',
			'resolution',
		]);
		await checkOutputs(sizedRun, { sample: 'sample' }, 1e-4);
		await checkTraining({ ...sizedRun, cuts: [1, 3] }, 1e-3);
	});

	it('takes size conditions from latents of 128 on, unless told not to', () => {
		const inputs = (config: object) => Object.keys(pixartChain(readPixArtConfig(config)).inputs);
		expect(inputs({ sample_size: 128 })).toContain('resolution');
		expect(inputs({ sample_size: 64 })).not.toContain('resolution');
		expect(inputs({ sample_size: 128, use_additional_conditions: false })).not.toContain('resolution');
	});

	it('reads texts as they are when there is no caption_channels', () => {
		const chain = pixartChain(readPixArtConfig({ sample_size: 8, num_layers: 1, cross_attention_dim: 30 }));
		expect(chain.inputs.encoder_hidden_states!.shape).toEqual([120, 30]);
		const { parameters } = traceChain(chain, 1);
		expect(parameters.get('transformer_blocks.0.attn2.to_k.weight')!.shape).toEqual([1152, 30]);
		expect([...parameters.keys()].filter((name) => name.startsWith('caption_projection'))).toEqual([]);
	});

	it('refuses, by name, options it does not implement and sizes that do not fit', () => {
		expect(() => readPixArtConfig({ norm_type: 'ada_norm_zero' })).toThrow(/norm_type/);
		expect(() => readPixArtConfig({ caption_chanels: 1 })).toThrow(/did you mean caption_channels/);
		expect(() => readPixArtConfig({ cross_attention_dim: null })).toThrow(/cross_attention_dim/);
		expect(() => readPixArtConfig({ caption_channels: 8, cross_attention_dim: 16 })).toThrow(/cross_attention_dim[\s\S]*1152/);
		expect(() => pixartChain(readPixArtConfig({ sample_size: 7 }))).toThrow(/patch_size 2[\s\S]*7 x 7/);
	});
});
