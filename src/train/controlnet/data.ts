/** @file Whether the conditioning pictures of the data are what a ControlNet takes. */
import { DiffusionPipeError } from '../../core/errors.ts';
import { controlImageInput } from '../../models/control-fit.ts';
import type { Denoiser } from '../../models/index.ts';
import type { DataSetInfo } from '../data/types.ts';

/** Throws a config error when `denoiser` takes conditioning pictures and `data` has none, or of another shape. Other models are not looked at. */
export function checkConditioning({ name, conditioned, height, width }: DataSetInfo, conditioning: Denoiser['conditioning']): void {
	const wanted = conditioning[controlImageInput]?.shape;
	if (!wanted) return;
	if (!conditioned) {
		throw new DiffusionPipeError('config', 'the images have no conditioning pictures', {
			place: `data set ${name}`,
			expected: 'data.conditioning_image',
		});
	}
	if (wanted.join() === [3, height, width].join()) return;
	throw new DiffusionPipeError('config', 'the conditioning pictures do not fit the ControlNet', {
		place: `data set ${name}`,
		expected: `[${wanted.join(', ')}] (model.conditioning_channels, and the latents' size doubled for each number of model.conditioning_embedding_out_channels but the first)`,
		found: `[3, ${height}, ${width}]`,
		hint: 'give model.conditioning_embedding_out_channels one number more than the autoencoder halves its pictures',
	});
}
