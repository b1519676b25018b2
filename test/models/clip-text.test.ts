import { readFileSync } from 'node:fs';
import { describe, it } from 'vitest';
import type { Tensor } from '../../src/core/tensor.ts';
import { clipTextChain, readCLIPTextConfig } from '../../src/models/clip-text.ts';
import { checkOutputs, checkTraining } from '../helpers/fixture.ts';

const raw = JSON.parse(readFileSync(new URL('../fixtures/clip-text/config.json', import.meta.url), 'utf8'));
const run = {
	folder: 'clip-text',
	weights: 'model.safetensors',
	chain: clipTextChain(readCLIPTextConfig(raw), { tokens: 8, prefix: '' }),
	output: 'last_hidden_state',
	inputs: (io: ReadonlyMap<string, Tensor>) => ({ input_ids: io.get('in.input_ids')! }),
};

describe('CLIPTextModel', () => {
	it('gives the reference states and the pooled state', async () => {
		await checkOutputs(run, { last_hidden_state: 'last_hidden_state', pooler_output: 'pooled' }, 1e-5);
	});

	it('agrees with the reference loss and every gradient on one device', async () => {
		await checkTraining({ ...run, cuts: [] }, 1e-4);
	});

	it('agrees when cut before the first and the last block', async () => {
		await checkTraining({ ...run, cuts: [1, 2] }, 1e-4);
	});
});
