import { describe, expect, it } from 'vitest';
import { toNumbers } from '../../src/core/tensor.ts';
import { readSafetensors } from '../../src/io/safetensors.ts';
import { fluxChain, readFluxConfig } from '../../src/models/flux.ts';
import { createDenoiser } from '../../src/models/index.ts';
import { traceChain } from '../../src/nn/chain.ts';
import { checkOutputs, checkTraining } from '../helpers/fixture.ts';
import { fixtureConfig, inputsOf } from '../helpers/fixture-inputs.ts';

const weights = 'diffusion_pytorch_model.safetensors';
const flux = fluxChain(readFluxConfig(fixtureConfig('flux')), { height: 16, width: 16, tokens: 6 });
const run = { folder: 'flux', weights, chain: flux, output: 'sample', inputs: inputsOf(flux) };

const guided = createDenoiser('FluxTransformer2DModel', fixtureConfig('flux-guided'), 'flux-guided', { height: 6, width: 10, tokens: 3 });
const guidedRun = { folder: 'flux-guided', weights, chain: guided.chain, output: 'sample', inputs: inputsOf(guided.chain) };

describe('FluxTransformer2DModel', () => {
	it('gives the reference output', async () => {
		await checkOutputs(run, { sample: 'sample' }, 1e-4);
	});

	it('agrees with the reference loss and every gradient on one device', async () => {
		await checkTraining({ ...run, cuts: [] }, 1e-3);
	});

	it('agrees when cut before the block of two streams and between the blocks of one', async () => {
		await checkTraining({ ...run, cuts: [3, 5] }, 1e-3);
	});

	it('agrees with a guidance embedding, cut between the two kinds of blocks', async () => {
		expect(Object.keys(guided.conditioning).sort()).toEqual(['encoder_hidden_states', 'guidance', 'pooled_projections']);
		await checkOutputs(guidedRun, { sample: 'sample' }, 1e-4);
		await checkTraining({ ...guidedRun, cuts: [1, 4] }, 1e-3);
	});

	it('knows the positions of a packed latent', async () => {
		const { tensors: io } = await readSafetensors(new URL('../fixtures/flux-guided/io.safetensors', import.meta.url).pathname);
		for (const name of ['img_ids', 'txt_ids']) expect(toNumbers(guided.fixed[name]!)).toEqual(toNumbers(io.get(`in.${name}`)!));
		expect(guided.timestepScale * 1000).toBe(1);
	});

	it('builds with blocks of one kind alone', () => {
		const small = { num_attention_heads: 1, attention_head_dim: 16, axes_dims_rope: [4, 4, 8], in_channels: 4 };
		const names = (config: object) => [
			...traceChain(fluxChain(readFluxConfig({ ...small, ...config }), { height: 4, width: 4 }), 1).parameters.keys(),
		];
		expect(names({ num_layers: 2, num_single_layers: 0 }).filter((n) => n.startsWith('single'))).toEqual([]);
		expect(names({ num_layers: 0, num_single_layers: 1 }).filter((n) => n.startsWith('transformer_blocks'))).toEqual([]);
		// 16 of the embeddings and the output, 32 of each block of two streams, 14 of each block of one.
		expect(names({ num_layers: 2, num_single_layers: 3 })).toHaveLength(16 + 2 * 32 + 3 * 14);
	});

	it('refuses, by name, what does not fit', () => {
		expect(() => readFluxConfig({ axes_dims_rope: [16, 56, 55] })).toThrow(/axes_dims_rope[\s\S]*128/);
		expect(() => readFluxConfig({ patch_size: 2 })).toThrow(/patch_size/);
	});
});
