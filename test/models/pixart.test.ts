import { readFileSync } from 'node:fs';
import { describe, it } from 'vitest';
import { type Tensor, tensor, toNumbers } from '../../src/core/tensor.ts';
import { pixartChain, readPixArtConfig } from '../../src/models/pixart.ts';
import { checkOutputs, checkTraining } from '../helpers/fixture.ts';

const raw = JSON.parse(readFileSync(new URL('../fixtures/pixart/config.json', import.meta.url), 'utf8'));
const run = {
	folder: 'pixart',
	weights: 'diffusion_pytorch_model.safetensors',
	chain: pixartChain(readPixArtConfig(raw), { tokens: 5 }),
	output: 'sample',
	inputs: (io: ReadonlyMap<string, Tensor>) => {
		const timestep = io.get('in.timestep')!;
		return {
			hidden_states: io.get('in.hidden_states')!,
			encoder_hidden_states: io.get('in.encoder_hidden_states')!,
			timestep: tensor('float32', timestep.shape, toNumbers(timestep)),
		};
	},
};

describe('PixArtTransformer2DModel', () => {
	it('gives the reference output', async () => {
		await checkOutputs(run, { sample: 'sample' }, 1e-5);
	});

	it('agrees with the reference loss and every gradient on one device', async () => {
		await checkTraining({ ...run, cuts: [] }, 1e-4);
	});

	it('agrees when cut between conditioning and captions, and between the blocks', async () => {
		await checkTraining({ ...run, cuts: [2, 4] }, 1e-4);
	});
});
