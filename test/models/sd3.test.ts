import { describe, expect, it } from 'vitest';
import { toNumbers } from '../../src/core/tensor.ts';
import { readSafetensors } from '../../src/io/safetensors.ts';
import { createDenoiser } from '../../src/models/index.ts';
import { readSD3Config, sd3Chain } from '../../src/models/sd3.ts';
import { traceChain } from '../../src/nn/chain.ts';
import { initialValues } from '../../src/train/parameters.ts';
import { checkOutputs, checkTraining, relativeDifference } from '../helpers/fixture.ts';
import { fixtureConfig, inputsOf } from '../helpers/fixture-inputs.ts';

const weights = 'diffusion_pytorch_model.safetensors';
const sd3 = sd3Chain(readSD3Config(fixtureConfig('sd3')), { tokens: 6 });
const run = { folder: 'sd3', weights, chain: sd3, output: 'sample', inputs: inputsOf(sd3) };

const sd35 = createDenoiser('SD3Transformer2DModel', fixtureConfig('sd35'), 'sd35', { height: 10, width: 14, tokens: 5 });
const sd35Run = { folder: 'sd35', weights, chain: sd35.chain, output: 'sample', inputs: inputsOf(sd35.chain) };

describe('SD3Transformer2DModel', () => {
	it('gives the reference output', async () => {
		await checkOutputs(run, { sample: 'sample' }, 1e-4);
	});

	it('agrees with the reference loss and every gradient on one device', async () => {
		await checkTraining({ ...run, cuts: [] }, 1e-3);
	});

	it('agrees when cut between the embeddings and between the blocks', async () => {
		await checkTraining({ ...run, cuts: [2, 4] }, 1e-3);
	});

	it('agrees in the form of 3.5: second attentions, normed queries and keys, a part of the position table', async () => {
		expect(Object.keys(sd35.conditioning).sort()).toEqual(['encoder_hidden_states', 'pooled_projections']);
		await checkOutputs(sd35Run, { sample: 'sample' }, 1e-4);
		await checkTraining({ ...sd35Run, cuts: [4, 5] }, 1e-3);
	});

	it('starts the position table, which is not trained, as the library does', async () => {
		const table = traceChain(sd3, 1).parameters.get('pos_embed.pos_embed')!;
		expect(table.trained).toBe(false);
		const { tensors } = await readSafetensors(new URL(`../fixtures/sd3/${weights}`, import.meta.url).pathname);
		expect(relativeDifference(initialValues(table, 0), toNumbers(tensors.get('pos_embed.pos_embed')!))).toBeLessThan(1e-6);
	});

	it('refuses, by name, what does not fit', () => {
		expect(() => readSD3Config({ qk_norm: 'layer_norm' })).toThrow(/qk_norm/);
		expect(() => readSD3Config({ caption_projection_dim: 100 })).toThrow(/caption_projection_dim[\s\S]*1152/);
		expect(() => readSD3Config({ dual_attention_layers: 3 })).toThrow(/dual_attention_layers/);
		expect(() => sd3Chain(readSD3Config({}), { height: 256 })).not.toThrow();
		expect(() => traceChain(sd3Chain(readSD3Config({}), { height: 256 }), 1)).toThrow(/pos_embed_max_size = 96[\s\S]*128 x 64/);
	});
});
