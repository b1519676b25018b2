/** @file What samplers over alpha_bar share (DDPM, DDIM): their timesteps, noise levels, and x0 from the model's output. */
import { DiffusionPipeError } from '../../core/errors.ts';
import { type NoiseLevel, originalMix, type PredictionType } from '../prediction.ts';
import { alphasCumprod, type BetaConfig, betas } from '../schedule.ts';
import { mixOutput, type OriginalLimits, originalLimiter } from './combine.ts';
import { choice, flag, number } from './options.ts';
import type { RunOptions, SamplerParts } from './sampler.ts';
import { betaOptions, thresholdingOptions } from './sigmas.ts';
import { type Spacing, spacedTimesteps, spacingOptions } from './spacing.ts';

/** Options of DDPMScheduler and DDIMScheduler alike. */
export const alphaBarOptions = {
	...betaOptions,
	...spacingOptions('leading'),
	...thresholdingOptions,
	prediction_type: choice('epsilon', ['epsilon', 'sample', 'v_prediction']),
	clip_sample: flag(true),
	clip_sample_range: number(1, 0),
} as const;

/** The common parts of a sampler, and alpha_bar of every training timestep. */
export interface AlphaBarParts extends Pick<SamplerParts, 'timesteps' | 'initNoiseSigma' | 'levelAt' | 'predictOriginal'> {
	readonly alphaBars: Float64Array;
}

/**
 * The common parts of a run.
 * @throws {DiffusionPipeError} for a noise prediction that starts from pure noise, where it says nothing about the image.
 */
export function alphaBarParts(
	place: string,
	options: BetaConfig &
		OriginalLimits & { readonly prediction_type: PredictionType; readonly timestep_spacing: Spacing; readonly steps_offset: number },
	run: RunOptions,
): AlphaBarParts {
	const { prediction_type: type } = options;
	const timesteps = spacedTimesteps(place, run.steps, options);
	const alphaBars = alphasCumprod(betas(options));
	const limit = originalLimiter(place, options, run.batch);
	if (type === 'epsilon' && alphaBars[timesteps[0]!] === 0) {
		throw new DiffusionPipeError('config', 'epsilon prediction cannot start from a timestep without signal', {
			place: `${place} prediction_type`,
			expected: 'v_prediction or sample, since the first timestep has zero signal-to-noise ratio (rescale_betas_zero_snr)',
			found: type,
		});
	}
	return {
		timesteps,
		alphaBars,
		initNoiseSigma: 1,
		levelAt: (t) => (alphaBars[t] === undefined ? undefined : levelOf(alphaBars[t])),
		predictOriginal: (modelOutput, i, sample) =>
			limit(mixOutput(originalMix(type, levelOf(alphaBars[timesteps[i]!]!)), sample, modelOutput)),
	};
}

/** The variance-preserving noise level of an alpha_bar. */
export function levelOf(alphaBar: number): NoiseLevel {
	return { alpha: Math.sqrt(alphaBar), sigma: Math.sqrt(1 - alphaBar) };
}
