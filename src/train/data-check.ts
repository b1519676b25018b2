/** @file Whether a run's data fit its model, and what of its config does not go with them. */
import { DiffusionPipeError } from '../core/errors.ts';
import type { Denoiser } from '../models/index.ts';
import { checkConditioning } from './controlnet/data.ts';
import type { DataSetInfo } from './data/types.ts';
import type { FrozenParts } from './frozen-parts.ts';

/** Throws a config error unless images, latents, texts, labels and conditioning pictures are what the model takes. */
export function checkData(data: DataSetInfo, denoiser: Denoiser, { vae, text }: FrozenParts): void {
	const { channels, height, width, classes, name } = data;
	const found = vae ? vae.latents : [channels, height, width];
	const want = denoiser.chain.inputs[denoiser.sample]!.shape;
	if (found.join() !== want.join()) {
		throw new DiffusionPipeError('config', vae ? 'the latents do not fit the model' : 'the images do not fit the model', {
			place: vae ? vae.folder : `data set ${name}`,
			expected: `[${want.join(', ')}] (model.in_channels, sample_size)`,
			found: `[${found.join(', ')}]`,
		});
	}
	const { encoder_hidden_states: states, pooled_projections: pooled } = denoiser.conditioning;
	if (text && states && states.shape.join() !== text.states.join()) {
		throw new DiffusionPipeError('config', 'the text states do not fit the model', {
			place: text.folder,
			expected: `[${states.shape.join(', ')}] (tokens, model.cross_attention_dim or its like)`,
			found: `[${text.states.join(', ')}]`,
		});
	}
	if (text && pooled && pooled.shape.join() !== String(text.pooled)) {
		throw new DiffusionPipeError('config', 'the projected text does not fit the model', {
			place: text.folder,
			expected: `[${pooled.shape.join(', ')}] (model.pooled_projection_dim)`,
			found: text.pooled === undefined ? `${text.className}, which has no projection` : `[${text.pooled}]`,
		});
	}
	const known = denoiser.labels?.none;
	if (known !== undefined && classes && classes.length > known) {
		throw new DiffusionPipeError('config', 'the data has more classes than the model', {
			place: 'model.num_embeds_ada_norm',
			expected: `at least ${classes.length}`,
			found: String(known),
		});
	}
	checkConditioning(data, denoiser.conditioning);
}
