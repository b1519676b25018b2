import { readFileSync } from 'node:fs';
import { describe, it } from 'vitest';
import { type Tensor, tensor } from '../../src/core/tensor.ts';
import { fluxChain, readFluxConfig } from '../../src/models/flux.ts';
import { checkOutputs, checkTraining } from '../helpers/fixture.ts';

const raw = JSON.parse(readFileSync(new URL('../fixtures/flux/config.json', import.meta.url), 'utf8'));

/** Ids [T, axes] for each of `batch` samples. */
function perSample(ids: Tensor, batch: number): Tensor {
	const values = Array.from(ids.data as Float32Array);
	return tensor('float32', [batch, ...ids.shape], Array.from({ length: batch }, () => values).flat());
}

const run = {
	folder: 'flux',
	weights: 'diffusion_pytorch_model.safetensors',
	chain: fluxChain(readFluxConfig(raw), { height: 16, width: 16, tokens: 6 }),
	output: 'sample',
	inputs: (io: ReadonlyMap<string, Tensor>) => ({
		hidden_states: io.get('in.hidden_states')!,
		encoder_hidden_states: io.get('in.encoder_hidden_states')!,
		pooled_projections: io.get('in.pooled_projections')!,
		timestep: io.get('in.timestep')!,
		img_ids: perSample(io.get('in.img_ids')!, 2),
		txt_ids: perSample(io.get('in.txt_ids')!, 2),
	}),
};

describe('FluxTransformer2DModel', () => {
	it('gives the reference output', async () => {
		await checkOutputs(run, { sample: 'sample' }, 1e-5);
	});

	it('agrees with the reference loss and every gradient on one device', async () => {
		await checkTraining({ ...run, cuts: [] }, 1e-4);
	});

	it('agrees when cut before the block of two streams and between the blocks of one', async () => {
		await checkTraining({ ...run, cuts: [3, 5] }, 1e-4);
	});
});
