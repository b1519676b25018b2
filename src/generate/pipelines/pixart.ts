/** @file PixArt-alpha (Chen et al., 2310.00426) and -Sigma: a transformer that attends to the states of T5, its padding left out. */
import { sameRows, type TextFamily } from '../text-family.ts';
import { textPipeline } from '../text-pipeline.ts';

function pixart(tokens: number): TextFamily {
	return {
		defaults: { steps: 20, guidanceScale: 4.5, strength: 0.8 },
		prediction: 'noise',
		classifierFree: true,
		texts: () => [{ tokenizer: 'tokenizer', encoder: 'text_encoder', tokens, attentionMask: true, outputs: () => ['last_hidden_state'] }],
		// The captions it was trained on were lower-case.
		prepare: (text) => text.toLowerCase().trim(),
		textTokens: () => tokens,
		attentionMask: true,
		patch: ({ patch_size }) => Number(patch_size ?? 2),
		conditions: ({ texts: [text], rows, size: { height, width } }) => ({
			encoder_hidden_states: text!.outputs.last_hidden_state!,
			encoder_attention_mask: text!.attentionMask,
			// Taken by models for 1024 pixels alone.
			resolution: sameRows([height, width], [2], rows),
			aspect_ratio: sameRows([height / width], [1], rows),
		}),
	};
}

/** PixArtAlphaPipeline. */
export const pixartAlpha = textPipeline(pixart(120));

/** PixArtSigmaPipeline. */
export const pixartSigma = textPipeline(pixart(300));
