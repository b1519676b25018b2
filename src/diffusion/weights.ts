/** @file Loss weights: how much a sample's squared error counts, given its noise level. */
import { DiffusionPipeError } from '../core/errors.ts';
import type { NoiseLevel, PredictionType } from './prediction.ts';

/**
 * A weighting of the per-sample mean squared error.
 * - `uniform`: 1.
 * - `min_snr`: Min-SNR-gamma (Hang et al., arXiv 2303.09556), with SNR = alpha^2 / sigma^2; the paper recommends gamma 5.
 * - `sigma_sqrt`, `cosmap`: for flows (Esser et al., arXiv 2403.03206, section 3.1): sigma^-2 and 2 / (pi (1 - 2 sigma + 2 sigma^2)).
 */
export type LossWeighting =
	| { readonly kind: 'uniform' }
	| { readonly kind: 'min_snr'; readonly gamma: number }
	| { readonly kind: 'sigma_sqrt' }
	| { readonly kind: 'cosmap' };

/** Signal-to-noise ratio alpha^2 / sigma^2; infinite without noise. */
export function signalToNoise({ alpha, sigma }: NoiseLevel): number {
	return (alpha / sigma) ** 2;
}

/**
 * The weight of a sample's mean squared error in what the model predicts.
 * @throws {DiffusionPipeError} for `min_snr` with `flow_prediction`, which the method does not define.
 */
export function lossWeight(weighting: LossWeighting, type: PredictionType, level: NoiseLevel): number {
	switch (weighting.kind) {
		case 'uniform':
			return 1;
		case 'min_snr':
			return minSnrWeight(weighting.gamma, type, signalToNoise(level));
		case 'sigma_sqrt':
			return level.sigma ** -2;
		case 'cosmap':
			return 2 / (Math.PI * (1 - 2 * level.sigma + 2 * level.sigma ** 2));
	}
}

/** min(SNR, gamma) is the weight of an error in x0; an error in n is SNR times smaller, and one in v SNR + 1 times. */
function minSnrWeight(gamma: number, type: PredictionType, snr: number): number {
	switch (type) {
		case 'sample':
			return Math.min(snr, gamma);
		case 'epsilon':
			// min(snr, gamma) / snr, written so that it is 1 without signal instead of 0 / 0.
			return Math.min(1, gamma / snr);
		case 'v_prediction':
			return Math.min(snr, gamma) / (snr + 1);
		case 'flow_prediction':
			throw new DiffusionPipeError('config', 'Min-SNR weights are not defined for flows', {
				place: 'loss weighting',
				expected: 'prediction_type epsilon, v_prediction or sample',
				found: type,
				hint: 'use uniform, cosmap or sigma_sqrt, or another density of timesteps',
			});
	}
}
