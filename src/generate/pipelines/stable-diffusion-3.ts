/** @file Stable Diffusion 3 and 3.5 (Esser et al., 2403.03206): two CLIP encoders side by side, then T5 where there is one, as one text. */
import { zeros } from '../../core/tensor.ts';
import { textPipeline } from '../text-pipeline.ts';
import { concatLast, concatTokens, paddedTo } from '../text-states.ts';

const t5Tokens = 256;
const penultimate = (blocks: number) => `hidden_states.${blocks - 1}`;
const clip = (suffix: string) => ({
	tokenizer: `tokenizer${suffix}`,
	encoder: `text_encoder${suffix}`,
	outputs: (blocks: number) => [penultimate(blocks), 'text_embeds'],
});

/** StableDiffusion3Pipeline. */
export const stableDiffusion3 = textPipeline({
	defaults: { steps: 28, guidanceScale: 7, strength: 0.6 },
	prediction: 'flow',
	classifierFree: true,
	texts: () => [
		clip(''),
		clip('_2'),
		{ tokenizer: 'tokenizer_3', encoder: 'text_encoder_3', tokens: t5Tokens, outputs: () => ['last_hidden_state'], optional: true },
	],
	textTokens: ([tokens]) => tokens! + t5Tokens,
	patch: ({ patch_size }) => Number(patch_size ?? 2),
	conditions({ texts: [first, second, t5], rows, denoiser }) {
		const width = Number(denoiser.config.joint_attention_dim);
		const clips = [first!, second!];
		const states = concatLast(clips.map(({ outputs }) => Object.entries(outputs).find(([name]) => name.startsWith('hidden_states'))![1]));
		const long = t5?.outputs.last_hidden_state ?? zeros('float32', [rows, t5Tokens, width]);
		return {
			encoder_hidden_states: concatTokens(paddedTo(states, width), long),
			pooled_projections: concatLast(clips.map(({ outputs }) => outputs.text_embeds!)),
		};
	},
});
