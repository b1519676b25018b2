/** @file Stable Diffusion XL (Podell et al., 2307.01952): two text encoders side by side, a pooled text and the size of the image as numbers. */
import type { Tensor } from '../../core/tensor.ts';
import type { PixelSize } from '../image-size.ts';
import { sameRows } from '../text-family.ts';
import { textPipeline } from '../text-pipeline.ts';
import { concatLast } from '../text-states.ts';

/** The states before the last block. */
const penultimate = (blocks: number) => `hidden_states.${blocks - 1}`;

/** StableDiffusionXLPipeline, also with a ControlNet. */
export const stableDiffusionXL = textPipeline({
	defaults: { steps: 50, guidanceScale: 5, strength: 0.3 },
	prediction: 'noise',
	classifierFree: true,
	texts: () => [
		{ tokenizer: 'tokenizer', encoder: 'text_encoder', outputs: (blocks) => [penultimate(blocks)] },
		{ tokenizer: 'tokenizer_2', encoder: 'text_encoder_2', outputs: (blocks) => [penultimate(blocks), 'text_embeds'] },
	],
	textTokens: ([tokens]) => tokens!,
	patch: () => 1,
	conditions({ texts, rows, negative, size, options }) {
		const states = concatLast(texts.map((text) => Object.entries(text!.outputs).find(([name]) => name.startsWith('hidden_states'))![1]));
		const pooled = texts[1]!.outputs.text_embeds!;
		// As published: where nobody gives a negative prompt, it is no text at all rather than an empty one.
		const zeroed = negative && !negative.given && options.force_zeros_for_empty_prompt !== false ? negative.row : undefined;
		return {
			encoder_hidden_states: withZeroRow(states, zeroed),
			text_embeds: withZeroRow(pooled, zeroed),
			time_ids: sameRows(timeIds(size), [6], rows),
		};
	},
});

/** `time_ids`: the original size (height, width), the corner that a crop starts at (top, left), the size to make. Nothing is scaled or cropped here. */
export function timeIds({ height, width }: PixelSize): number[] {
	return [height, width, 0, 0, height, width];
}

function withZeroRow(rows: Tensor, zeroed: number | undefined): Tensor {
	if (zeroed === undefined) return rows;
	const data = (rows.data as Float32Array).slice();
	const stride = data.length / rows.shape[0]!;
	data.fill(0, zeroed * stride, (zeroed + 1) * stride);
	return { dtype: 'float32', shape: rows.shape, data };
}
