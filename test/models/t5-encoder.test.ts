import { readFileSync } from 'node:fs';
import { describe, it } from 'vitest';
import type { Tensor } from '../../src/core/tensor.ts';
import { readT5Config, t5EncoderChain } from '../../src/models/t5-encoder.ts';
import { checkOutputs, checkTraining } from '../helpers/fixture.ts';

const raw = JSON.parse(readFileSync(new URL('../fixtures/t5-encoder/config.json', import.meta.url), 'utf8'));
const run = {
	folder: 't5-encoder',
	weights: 'model.safetensors',
	chain: t5EncoderChain(readT5Config(raw), { tokens: 8 }),
	output: 'last_hidden_state',
	inputs: (io: ReadonlyMap<string, Tensor>) => ({ input_ids: io.get('in.input_ids')! }),
};

describe('T5EncoderModel', () => {
	it('gives the reference states', async () => {
		await checkOutputs(run, { last_hidden_state: 'sample' }, 1e-5);
	});

	it('agrees with the reference loss and every gradient on one device', async () => {
		await checkTraining({ ...run, cuts: [] }, 1e-4);
	});

	it('agrees when cut between the blocks, which share the first one’s position table', async () => {
		await checkTraining({ ...run, cuts: [2, 3] }, 1e-4);
	});
});
