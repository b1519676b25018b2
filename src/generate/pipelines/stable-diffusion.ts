/** @file Stable Diffusion 1 and 2, and what is trained here from captions: a denoiser that attends to the last states of one text encoder. */
import { textPipeline } from '../text-pipeline.ts';

/** StableDiffusionPipeline, also with a ControlNet. */
export const stableDiffusion = textPipeline({
	defaults: { steps: 50, guidanceScale: 7.5, strength: 0.8 },
	prediction: undefined,
	classifierFree: true,
	texts: () => [{ tokenizer: 'tokenizer', encoder: 'text_encoder', outputs: () => ['last_hidden_state'] }],
	textTokens: ([tokens]) => tokens!,
	patch: ({ patch_size }) => (typeof patch_size === 'number' ? patch_size : 1),
	conditions: ({ texts: [text] }) => ({ encoder_hidden_states: text!.outputs.last_hidden_state! }),
});
