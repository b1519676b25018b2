/** @file Flux.1: the pooled text of CLIP and the states of T5; latents packed two by two into tokens; guidance as a number the model takes. */
import type { SampleLayout } from '../denoising.ts';
import { sameRows } from '../text-family.ts';
import { textPipeline } from '../text-pipeline.ts';

/** FluxPipeline. */
export const flux = textPipeline({
	defaults: { steps: 28, guidanceScale: 3.5, strength: 0.6 },
	prediction: 'flow',
	classifierFree: false,
	texts: ({ guidance_embeds }) => [
		{ tokenizer: 'tokenizer', encoder: 'text_encoder', outputs: () => ['pooler_output'] },
		// The model without guidance, schnell, was trained on texts of 256 tokens.
		{
			tokenizer: 'tokenizer_2',
			encoder: 'text_encoder_2',
			tokens: guidance_embeds === true ? 512 : 256,
			outputs: () => ['last_hidden_state'],
		},
	],
	textTokens: ([, tokens]) => tokens!,
	patch: () => 2,
	sampleSize: 128,
	layout: packedLayout,
	evenSigmas: true,
	conditions: ({ texts: [clip, t5], rows, guidanceScale }) => ({
		pooled_projections: clip!.outputs.pooler_output!,
		encoder_hidden_states: t5!.outputs.last_hidden_state!,
		guidance: sameRows([guidanceScale], [], rows),
	}),
});

/** Samples [C, H, W] as tokens [H / 2 * W / 2, C * 4]: token by token in reading order, in each the four places of a channel in theirs. */
export function packedLayout([channels, rows, columns]: readonly [number, number, number]): SampleLayout {
	const places = new Int32Array(channels * rows * columns);
	let at = 0;
	for (let row = 0; row < rows; row += 2) {
		for (let column = 0; column < columns; column += 2) {
			for (let c = 0; c < channels; c++) {
				for (const [dy, dx] of [
					[0, 0],
					[0, 1],
					[1, 0],
					[1, 1],
				] as const) {
					places[at++] = (c * rows + row + dy) * columns + column + dx;
				}
			}
		}
	}
	return {
		pack: (sample) => Float32Array.from(places, (place) => sample[place]!),
		unpack(packed) {
			const sample = new Float32Array(places.length);
			places.forEach((place, i) => {
				sample[place] = packed[i]!;
			});
			return sample;
		},
	};
}
