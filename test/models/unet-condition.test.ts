import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { type Tensor, tensor, toNumbers } from '../../src/core/tensor.ts';
import { createDenoiser } from '../../src/models/index.ts';
import { readUNetConditionConfig, unetConditionChain } from '../../src/models/unet-condition.ts';
import { liveAt, traceChain } from '../../src/nn/chain.ts';
import { checkOutputs, checkTraining } from '../helpers/fixture.ts';

const configOf = (folder: string) =>
	readUNetConditionConfig(JSON.parse(readFileSync(new URL(`../fixtures/${folder}/config.json`, import.meta.url), 'utf8')));
const timestepOf = (io: ReadonlyMap<string, Tensor>) => {
	const timestep = io.get('in.timestep')!;
	return tensor('float32', timestep.shape, toNumbers(timestep));
};

const sd = {
	folder: 'unet-sd',
	weights: 'diffusion_pytorch_model.safetensors',
	chain: unetConditionChain(configOf('unet-sd'), { tokens: 7 }),
	output: 'sample',
	inputs: (io: ReadonlyMap<string, Tensor>) => ({
		sample: io.get('in.sample')!,
		timestep: timestepOf(io),
		encoder_hidden_states: io.get('in.encoder_hidden_states')!,
	}),
};

const sdxl = {
	...sd,
	folder: 'unet-sdxl',
	chain: unetConditionChain(configOf('unet-sdxl'), { tokens: 7 }),
	inputs: (io: ReadonlyMap<string, Tensor>) => ({
		...sd.inputs(io),
		text_embeds: io.get('in.text_embeds')!,
		time_ids: io.get('in.time_ids')!,
	}),
};

/** Index of the layer called `name`. */
function layerOf({ chain }: typeof sd, name: string): number {
	const index = chain.layers.findIndex((layer) => layer.name === name);
	expect(index, name).toBeGreaterThan(0);
	return index;
}

/** Small, of the SD form, with `changes`. */
const small = (changes: object) =>
	readUNetConditionConfig({
		block_out_channels: [8, 16],
		down_block_types: ['CrossAttnDownBlock2D', 'DownBlock2D'],
		up_block_types: ['UpBlock2D', 'CrossAttnUpBlock2D'],
		layers_per_block: 1,
		norm_num_groups: 4,
		attention_head_dim: 2,
		cross_attention_dim: 12,
		sample_size: 8,
		...changes,
	});
const build = (changes: object, options = {}) => unetConditionChain(small(changes), { tokens: 5, ...options });
const parametersOf = (changes: object, options = {}) => traceChain(build(changes, options), 1).parameters;

describe('UNet2DConditionModel', () => {
	it('of Stable Diffusion 1 agrees with the reference outputs', async () => {
		await checkOutputs(sd, { sample: 'sample' }, 1e-5);
	});

	it('of Stable Diffusion 1 agrees with the reference loss and every gradient on one device', async () => {
		await checkTraining({ ...sd, cuts: [] }, 1e-4);
	});

	it('of Stable Diffusion 1 agrees when cut inside the ways down and up', async () => {
		const cuts = [layerOf(sd, 'down_blocks.0.downsamplers.0'), layerOf(sd, 'up_blocks.0.resnets.1')];
		await checkTraining({ ...sd, cuts }, 1e-4);
	});

	it('of SDXL agrees with the reference outputs', async () => {
		await checkOutputs(sdxl, { sample: 'sample' }, 1e-5);
	});

	it('of SDXL agrees with the reference loss and every gradient on one device', async () => {
		await checkTraining({ ...sdxl, cuts: [] }, 1e-4);
	});

	it('of SDXL agrees when cut inside transformers', async () => {
		const cuts = [
			layerOf(sdxl, 'down_blocks.1.attentions.0.transformer_blocks.1'),
			layerOf(sdxl, 'up_blocks.0.attentions.1.transformer_blocks.1'),
		];
		await checkTraining({ ...sdxl, cuts }, 1e-4);
	});

	it('sends skips, the embedding and the map over a cut in the way up, each once', () => {
		const trace = traceChain(sd.chain, 2);
		const live = liveAt(trace, layerOf(sd, 'up_blocks.0.upsamplers.0'));
		expect(live.map((id) => trace.definitions.get(id)!.name).sort()).toEqual(['emb', 'hidden', 'skip.0', 'skip.1']);
		const inTransformer = traceChain(sdxl.chain, 2);
		const inside = liveAt(inTransformer, layerOf(sdxl, 'mid_block.attentions.0.transformer_blocks.1'));
		expect(inside.map((id) => inTransformer.definitions.get(id)!.name).sort()).toEqual(
			['emb', 'hidden', 'skip.0', 'skip.1', 'skip.2', 'skip.3', 'tokens'].sort(),
		);
	});

	it('has the inputs its config asks for', () => {
		const names = (changes: object, options = {}) => Object.keys(build(changes, options).inputs);
		expect(names({})).toEqual(['sample', 'timestep', 'encoder_hidden_states']);
		expect(names({ time_cond_proj_dim: 6, num_class_embeds: 3 })).toEqual([
			'sample',
			'timestep',
			'timestep_cond',
			'class_labels',
			'encoder_hidden_states',
		]);
		expect(build({ num_class_embeds: 3 }).inputs.class_labels).toEqual({ dtype: 'int64', shape: [] });
		const text = { addition_embed_type: 'text_time', addition_time_embed_dim: 8, projection_class_embeddings_input_dim: 68 };
		expect(build(text).inputs.text_embeds!.shape).toEqual([20]);
		expect(build(text, { ids: 5 }).inputs.text_embeds!.shape).toEqual([28]);
		expect(names({}, { residuals: 'maps' }).slice(3)).toEqual([
			...[0, 1, 2, 3].map((i) => `down_block_additional_residual_${i}`),
			'mid_block_additional_residual',
		]);
		expect(build({}, { residuals: 'maps', height: 9, width: 12 }).inputs.mid_block_additional_residual!.shape).toEqual([16, 5, 6]);
	});

	it('has the parameters its config asks for', () => {
		const plain = parametersOf({});
		expect(parametersOf({}, { residuals: 'maps', height: 16, width: 20, tokens: 9 })).toEqual(plain);
		const deep = parametersOf({ transformer_layers_per_block: [3, 1], layers_per_block: 2 });
		const block = 'attentions.1.transformer_blocks.2.attn2.to_k.weight';
		for (const path of ['down_blocks.0', 'up_blocks.1']) expect(deep.get(`${path}.${block}`)?.shape, path).toEqual([8, 12]);
		expect(plain.has(`down_blocks.0.${block}`)).toBe(false);
		expect([...parametersOf({ mid_block_type: null }).keys()].some((name) => name.startsWith('mid_block'))).toBe(false);
		expect(parametersOf({ use_linear_projection: true }).get('down_blocks.0.attentions.0.proj_in.weight')!.shape).toEqual([8, 8]);
		expect(plain.get('down_blocks.0.attentions.0.proj_in.weight')!.shape).toEqual([8, 8, 1, 1]);
		expect(
			parametersOf({ only_cross_attention: true }).get('down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_k.weight')!.shape,
		).toEqual([8, 12]);
		expect(parametersOf({ encoder_hid_dim: 10 }).get('encoder_hid_proj.weight')!.shape).toEqual([12, 10]);
	});

	it('is a denoiser whose conditioning is what the text encoders give', () => {
		const raw = JSON.parse(readFileSync(new URL('../fixtures/unet-sdxl/config.json', import.meta.url), 'utf8'));
		const denoiser = createDenoiser('UNet2DConditionModel', raw, undefined, { height: 12, width: 20, tokens: 9 });
		expect(denoiser.conditioning).toEqual({
			encoder_hidden_states: { dtype: 'float32', shape: [9, 24] },
			text_embeds: { dtype: 'float32', shape: [20] },
			time_ids: { dtype: 'float32', shape: [6] },
		});
		expect(denoiser.labels).toBeUndefined();
		expect(denoiser.chain.inputs[denoiser.sample]!.shape).toEqual([4, 12, 20]);
	});

	it('refuses options that it does not implement or that do not fit, naming them', () => {
		expect(() => small({ addition_embed_type: 'image' })).toThrow(/addition_embed_type/);
		expect(() => small({ time_embedding_type: 'fourier' })).toThrow(/time_embedding_type/);
		expect(() => small({ mid_block_type: 'UNetMidBlock2DSimpleCrossAttn' })).toThrow(/mid_block_type/);
		expect(() => small({ encoder_hid_dim_type: 'text_proj' })).toThrow(/encoder_hid_dim is missing/);
		expect(() => small({ atention_head_dim: 8 })).toThrow(/did you mean attention_head_dim/);
		expect(() => build({ attention_head_dim: [2, 4, 8] })).toThrow(/attention_head_dim does not fit the blocks/);
		expect(() => build({ attention_head_dim: 3 })).toThrow(/a number of heads that divides 8/);
		expect(() => build({ transformer_layers_per_block: [1, 2, 3] })).toThrow(/transformer_layers_per_block/);
		expect(() => build({ transformer_layers_per_block: [[1, 1], 1] })).toThrow(/1 depths in transformer_layers_per_block/);
		expect(() => build({ cross_attention_dim: [12, 16] })).toThrow(/cross_attention_dim/);
		expect(() => build({ class_embed_type: 'projection' })).toThrow(/projection_class_embeddings_input_dim is missing/);
		expect(() => build({ addition_embed_type: 'text_time' })).toThrow(/addition_time_embed_dim/);
		expect(() => build({ sample_size: null })).toThrow(/sample size is not given/);
		expect(() => build({ down_block_types: ['SimpleCrossAttnDownBlock2D', 'DownBlock2D'] })).toThrow(
			/SimpleCrossAttnDownBlock2D is not known/,
		);
	});
});
