import { describe, expect, it } from 'vitest';
import { createEncoder } from '../../src/models/encoders.ts';
import { readT5Config, relativeBucket, t5EncoderChain } from '../../src/models/t5-encoder.ts';
import { checkOutputs, checkTraining } from '../helpers/fixture.ts';
import { fixtureConfig, inputsOf } from '../helpers/fixture-inputs.ts';

const weights = 'model.safetensors';
const output = 'last_hidden_state';
const t5 = t5EncoderChain(readT5Config(fixtureConfig('t5-encoder')), { tokens: 8 });
const run = { folder: 't5-encoder', weights, chain: t5, output, inputs: inputsOf(t5) };

describe('T5EncoderModel', () => {
	it('gives the reference states', async () => {
		await checkOutputs(run, { last_hidden_state: 'sample' }, 1e-4);
	});

	it('agrees with the reference loss and every gradient on one device', async () => {
		await checkTraining({ ...run, cuts: [] }, 1e-3);
	});

	it('agrees when cut between the blocks, which share the first one’s position table', async () => {
		await checkTraining({ ...run, cuts: [2, 3] }, 1e-3);
	});

	it('does not look at padding, before or after a text', async () => {
		const { chain } = createEncoder('T5EncoderModel', fixtureConfig('t5-masked'), 't5-masked', { tokens: 20, attentionMask: true });
		const masked = { folder: 't5-masked', weights, chain, output, inputs: inputsOf(chain) };
		const states = Object.fromEntries([output, 'hidden_states.0', 'hidden_states.1', 'hidden_states.2'].map((s) => [s, s]));
		await checkOutputs(masked, states, 1e-4);
		await checkTraining({ ...masked, cuts: [2, 3] }, 1e-3);
	});

	it('agrees without gates, as the first T5 was', async () => {
		const { chain } = createEncoder('T5EncoderModel', fixtureConfig('t5-relu'), 't5-relu', { tokens: 33 });
		const ungated = { folder: 't5-relu', weights, chain, output, inputs: inputsOf(chain) };
		await checkOutputs(ungated, { [output]: output }, 1e-4);
		await checkTraining({ ...ungated, cuts: [1, 2] }, 1e-3);
	});

	it('has exact, then logarithmic buckets, the far ones all in the last', () => {
		const of = (relative: number) => relativeBucket(relative, 32, 128);
		expect([0, -1, -7, -8, -11, -12, -15, -16, -22, -23].map(of)).toEqual([0, 1, 7, 8, 8, 9, 9, 10, 10, 11]);
		expect([-31, -32, -45, -46, -63, -64, -90, -91, -127, -128, -5000].map(of)).toEqual([11, 12, 12, 13, 13, 14, 14, 15, 15, 15, 15]);
		expect([1, 7, 8, 64, 5000].map(of)).toEqual([17, 23, 24, 30, 31]);
	});

	it('reads the activation from either spelling', () => {
		const read = (raw: object) => [readT5Config(raw).dense_act_fn, readT5Config(raw).is_gated_act];
		expect(read({})).toEqual(['relu', false]);
		expect(read({ feed_forward_proj: 'gated-gelu' })).toEqual(['gelu_new', true]);
		expect(read({ feed_forward_proj: 'gated-silu' })).toEqual(['silu', true]);
		expect(read({ feed_forward_proj: 'gated-gelu', dense_act_fn: 'gelu' })).toEqual(['gelu', true]);
		expect(() => readT5Config({ feed_forward_proj: 'gated-cosine' })).toThrow(/feed_forward_proj[\s\S]*relu/);
		expect(() => readT5Config({ is_decoder: true })).toThrow(/is_decoder/);
		expect(() => readT5Config({ num_laiers: 2 })).toThrow(/did you mean num_layers/);
	});
});
