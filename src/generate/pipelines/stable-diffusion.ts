/** @file Stable Diffusion 1 and 2, and what is trained here from captions: a denoiser that attends to the last states of one text encoder, or to them and its one vector of a text. */
import { textPipeline } from '../text-pipeline.ts';

/** StableDiffusionPipeline, also with a ControlNet. */
export const stableDiffusion = textPipeline({
	defaults: { steps: 50, guidanceScale: 7.5, strength: 0.8 },
	prediction: undefined,
	classifierFree: true,
	texts: ({ pooled_projection_dim }) => [
		{
			tokenizer: 'tokenizer',
			encoder: 'text_encoder',
			outputs: () => ['last_hidden_state', ...(pooled_projection_dim === undefined ? [] : ['text_embeds'])],
		},
	],
	textTokens: ([tokens]) => tokens!,
	patch: ({ patch_size }) => (typeof patch_size === 'number' ? patch_size : 1),
	conditions: ({ texts: [text] }) => {
		const { last_hidden_state, text_embeds } = text!.outputs;
		return { encoder_hidden_states: last_hidden_state!, ...(text_embeds ? { pooled_projections: text_embeds } : {}) };
	},
});
