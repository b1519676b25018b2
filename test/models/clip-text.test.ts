import { describe, expect, it } from 'vitest';
import { clipTextChain, readCLIPTextConfig } from '../../src/models/clip-text.ts';
import { createEncoder } from '../../src/models/encoders.ts';
import { liveAt, traceChain } from '../../src/nn/chain.ts';
import { checkOutputs, checkTraining } from '../helpers/fixture.ts';
import { fixtureConfig, inputsOf } from '../helpers/fixture-inputs.ts';

const weights = 'model.safetensors';
const clip = createEncoder('CLIPTextModel', fixtureConfig('clip-text'), 'clip-text', { tokens: 8 }).chain;
const run = { folder: 'clip-text', weights, chain: clip, output: 'last_hidden_state', inputs: inputsOf(clip) };

/** The run of a folder, with its main output, and its outputs to compare: every hidden state among them. */
function variant(className: string, folder: string, tokens: number, output: string) {
	const { chain } = createEncoder(className, fixtureConfig(folder), folder, { tokens });
	const states = ['last_hidden_state', output, ...[0, 1, 2, 3].map((i) => `hidden_states.${i}`)];
	return { run: { folder, weights, chain, output, inputs: inputsOf(chain) }, outputs: Object.fromEntries(states.map((s) => [s, s])) };
}

describe('CLIPTextModel', () => {
	it('gives the reference states and the pooled state', async () => {
		await checkOutputs(run, { last_hidden_state: 'last_hidden_state', pooler_output: 'pooled' }, 1e-4);
	});

	it('agrees with the reference loss and every gradient on one device', async () => {
		await checkTraining({ ...run, cuts: [] }, 1e-3);
	});

	it('agrees when cut before the first and the last block', async () => {
		await checkTraining({ ...run, cuts: [1, 2] }, 1e-3);
	});

	it('takes the state of the highest id where the config ends texts with 2, and gives every hidden state', async () => {
		const legacy = variant('CLIPTextModel', 'clip-legacy', 9, 'pooler_output');
		await checkOutputs(legacy.run, legacy.outputs, 1e-4);
		await checkTraining({ ...legacy.run, cuts: [2, 4] }, 1e-3);
	});

	it('projects the state of the first end token', async () => {
		const projected = variant('CLIPTextModelWithProjection', 'clip-projection', 7, 'text_embeds');
		await checkOutputs(projected.run, projected.outputs, 1e-4);
		await checkTraining({ ...projected.run, cuts: [3, 5] }, 1e-3);
	});

	it('carries only the states asked for over a cut', () => {
		const alive = (outputs?: string[]) => {
			const trace = traceChain(clipTextChain(readCLIPTextConfig({}), outputs ? { outputs } : {}), 1);
			return liveAt(trace, 6)
				.map((id) => trace.definitions.get(id)!.name)
				.sort();
		};
		expect(alive()).toEqual(['hidden_states.5']);
		expect(alive(['hidden_states.2', 'hidden_states.11', 'pooler_output'])).toEqual(['hidden_states.2', 'hidden_states.5']);
		expect(() => alive(['hidden_states.13'])).toThrow(/hidden_states.13/);
	});

	it('names parameters as the library version of the config saves them, or as the checkpoint has them', () => {
		const first = (raw: object, className = 'CLIPTextModel', weightNames?: string[]) =>
			[...traceChain(createEncoder(className, raw, 'clip', weightNames ? { weightNames } : {}).chain, 1).parameters.keys()][0];
		expect(first({})).toBe('text_model.embeddings.token_embedding.weight');
		expect(first({ transformers_version: '4.22.0.dev0' })).toBe('text_model.embeddings.token_embedding.weight');
		expect(first({ transformers_version: '5.6.0' })).toBe('embeddings.token_embedding.weight');
		expect(first({ transformers_version: '5.6.0' }, 'CLIPTextModelWithProjection')).toBe('text_model.embeddings.token_embedding.weight');
		expect(first({ transformers_version: '5.6.0' }, 'CLIPTextModel', ['text_model.final_layer_norm.bias'])).toMatch(/^text_model/);
		expect(first({}, 'CLIPTextModel', ['final_layer_norm.bias'])).toMatch(/^embeddings/);
	});

	it('refuses, by name, what does not fit', () => {
		expect(() => readCLIPTextConfig({ hidden_act: 'tanh' })).toThrow(/hidden_act/);
		expect(() => readCLIPTextConfig({ hiden_size: 3 })).toThrow(/did you mean hidden_size/);
		expect(() => readCLIPTextConfig({ num_attention_heads: 7 })).toThrow(/num_attention_heads/);
		expect(() => clipTextChain(readCLIPTextConfig({}), { tokens: 78 })).toThrow(/at most 77/);
		expect(() => createEncoder('CLIPTextModel', {}, 'clip', { attentionMask: true })).toThrow(/attention mask/);
		expect(() => createEncoder('CLIPTextModl', {})).toThrow(/did you mean CLIPTextModel/);
		expect(() => createEncoder('constructor', {})).toThrow(/not known/);
	});
});
