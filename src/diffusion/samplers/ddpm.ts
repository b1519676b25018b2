/** @file DDPMScheduler: ancestral sampling of denoising diffusion (Ho et al., arXiv 2006.11239). */
import { variancePreservingProcess } from '../prediction.ts';
import type { BetaSchedule } from '../schedule.ts';
import { alphaBarOptions, alphaBarParts } from './alpha-bars.ts';
import { mix } from './combine.ts';
import { choice } from './options.ts';
import { samplerClass } from './sampler.ts';

/** DDPMScheduler. The learned variance types are not supported: drop the variance channels and choose a fixed one. */
export const ddpm = samplerClass({
	className: 'DDPMScheduler',
	options: {
		...alphaBarOptions,
		beta_schedule: choice<BetaSchedule>('linear', ['linear', 'scaled_linear', 'squaredcos_cap_v2', 'sigmoid']),
		variance_type: choice('fixed_small', ['fixed_small', 'fixed_small_log', 'fixed_large', 'fixed_large_log']),
	},
	runOptions: [],
	predictionType: (options) => options.prediction_type,
	process: variancePreservingProcess,
	parts(options, run) {
		const { alphaBars, ...common } = alphaBarParts('DDPMScheduler', options, run);
		const { timesteps, predictOriginal } = common;
		return {
			...common,
			needsNoise: (i) => timesteps[i]! > 0,
			step(modelOutput, i, sample, state, noise) {
				const alphaBar = alphaBars[timesteps[i]!]!;
				const previous = i + 1 < timesteps.length ? alphaBars[timesteps[i + 1]!]! : 1;
				const alpha = alphaBar / previous;
				const beta = 1 - alpha;
				// Equation 7, with alpha and beta of the whole stride between the two timesteps.
				const x0Weight = (Math.sqrt(previous) * beta) / (1 - alphaBar);
				const sampleWeight = (Math.sqrt(alpha) * (1 - previous)) / (1 - alphaBar);
				const small = Math.max(((1 - previous) / (1 - alphaBar)) * beta, 1e-20);
				// The _log forms name the same deviations: they were made to be stored as logarithms.
				const deviation = Math.sqrt(options.variance_type.startsWith('fixed_small') ? small : beta);
				const x0 = predictOriginal(modelOutput, i, sample);
				const mean = [
					[x0Weight, x0],
					[sampleWeight, sample],
				] as const;
				return { sample: timesteps[i]! > 0 ? mix(...mean, [deviation, noise]) : mix(...mean), state };
			},
		};
	},
});
