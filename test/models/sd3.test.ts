import { readFileSync } from 'node:fs';
import { describe, it } from 'vitest';
import type { Tensor } from '../../src/core/tensor.ts';
import { readSD3Config, sd3Chain } from '../../src/models/sd3.ts';
import { checkOutputs, checkTraining } from '../helpers/fixture.ts';

const raw = JSON.parse(readFileSync(new URL('../fixtures/sd3/config.json', import.meta.url), 'utf8'));
const run = {
	folder: 'sd3',
	weights: 'diffusion_pytorch_model.safetensors',
	chain: sd3Chain(readSD3Config(raw), { tokens: 6 }),
	output: 'sample',
	inputs: (io: ReadonlyMap<string, Tensor>) => ({
		hidden_states: io.get('in.hidden_states')!,
		encoder_hidden_states: io.get('in.encoder_hidden_states')!,
		pooled_projections: io.get('in.pooled_projections')!,
		timestep: io.get('in.timestep')!,
	}),
};

describe('SD3Transformer2DModel', () => {
	it('gives the reference output', async () => {
		await checkOutputs(run, { sample: 'sample' }, 1e-5);
	});

	it('agrees with the reference loss and every gradient on one device', async () => {
		await checkTraining({ ...run, cuts: [] }, 1e-4);
	});

	it('agrees when cut between the embeddings and between the blocks', async () => {
		await checkTraining({ ...run, cuts: [2, 4] }, 1e-4);
	});
});
