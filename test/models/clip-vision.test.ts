import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { sizeOf, type Tensor } from '../../src/core/tensor.ts';
import { clipVisionChain, readCLIPVisionConfig } from '../../src/models/clip-vision.ts';
import { traceChain } from '../../src/nn/chain.ts';
import { checkOutputs, checkTraining } from '../helpers/fixture.ts';

const raw = JSON.parse(readFileSync(new URL('../fixtures/clip-vision/config.json', import.meta.url), 'utf8'));
// Reference numbers of a plain PyTorch forward pass in float32. Images of 18 pixels and patches of 4: the last two rows and columns are not seen.
const run = {
	folder: 'clip-vision',
	weights: 'model.safetensors',
	chain: clipVisionChain(readCLIPVisionConfig(raw)),
	output: 'image_embeds',
	inputs: (io: ReadonlyMap<string, Tensor>) => ({ pixel_values: io.get('in.pixel_values')! }),
};

describe('CLIPVisionModelWithProjection', () => {
	it('gives the reference embeddings and states', async () => {
		await checkOutputs(run, { image_embeds: 'image_embeds', last_hidden_state: 'last_hidden_state' }, 1e-5);
	});

	it('agrees with the reference loss and every gradient, whole and cut', async () => {
		await checkTraining({ ...run, cuts: [] }, 1e-4);
		await checkTraining({ ...run, cuts: [1, 3] }, 1e-4);
	});

	it('has the parameters of the published sizes', () => {
		const count = (options: Record<string, unknown>) =>
			[...traceChain(clipVisionChain(readCLIPVisionConfig(options)), 1).parameters.values()].reduce((n, p) => n + sizeOf(p.shape), 0);
		// openai/clip-vit-base-patch32 and clip-vit-large-patch14: image encoder with projection.
		expect(count({})).toBe(87_849_216);
		const large = { hidden_size: 1024, intermediate_size: 4096, num_hidden_layers: 24, num_attention_heads: 16, patch_size: 14 };
		expect(count({ ...large, projection_dim: 768, torch_dtype: 'float32', model_type: 'clip_vision_model' })).toBe(303_966_208);
	});

	it('refuses options it does not know and heads that do not part the width', () => {
		expect(() => readCLIPVisionConfig({ patchsize: 14 })).toThrow(/did you mean patch_size/);
		expect(() => readCLIPVisionConfig({ hidden_act: 'swish2' })).toThrow(/hidden_act/);
		expect(() => readCLIPVisionConfig({ num_attention_heads: 7 })).toThrow(/num_attention_heads[\s\S]*divisor of hidden_size 768/);
	});
});
