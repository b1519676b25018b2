/** @file EulerDiscreteScheduler: Euler steps of the probability-flow ODE over sigma (Karras et al., arXiv 2206.00364, algorithm 1). */
import { originalMix, type PredictionType, variancePreservingProcess } from '../prediction.ts';
import { linspace } from '../schedule.ts';
import { mix, mixOutput } from './combine.ts';
import { choice, nullable, number } from './options.ts';
import { type SamplerParts, samplerClass } from './sampler.ts';
import { betaOptions, sigmaAt, sigmaSpacingOptions, sigmaTable, spacedSigmas, timestepOf } from './sigmas.ts';
import { type Spacing, spacedTimesteps, spacingOptions } from './spacing.ts';

/** EulerDiscreteScheduler. */
export const eulerDiscrete = samplerClass({
	className: 'EulerDiscreteScheduler',
	options: {
		...betaOptions,
		...spacingOptions('linspace'),
		...sigmaSpacingOptions,
		prediction_type: choice('epsilon', ['epsilon', 'sample', 'v_prediction']),
		interpolation_type: choice('linear', ['linear', 'log_linear']),
		sigma_min: nullable(number(0, 0)),
		sigma_max: nullable(number(0, 0)),
		timestep_type: choice('discrete', ['discrete', 'continuous']),
		final_sigmas_type: choice('zero', ['zero', 'sigma_min']),
	},
	runOptions: [],
	predictionType: (options) => options.prediction_type,
	process: variancePreservingProcess,
	parts(options, { steps }) {
		const place = 'EulerDiscreteScheduler';
		const table = sigmaTable(options);
		const visited = spacedTimesteps(place, steps, options, { whole: false });
		const along =
			options.interpolation_type === 'linear'
				? visited.map((t) => sigmaAt(table, t))
				: // One level more than there are steps, as diffusers has it: the last step ends at the lowest level of the table.
					[...linspace(Math.log(table.at(-1)!), Math.log(table[0]!), steps + 1)].map(Math.exp);
		const spaced = spacedSigmas(place, options, options.sigma_min ?? along.at(-1)!, options.sigma_max ?? along[0]!, steps);
		const last = options.final_sigmas_type === 'zero' ? 0 : table[0]!;
		const sigmas = [...(spaced ?? along), last].map(Math.fround);
		const continuous = options.timestep_type === 'continuous' && options.prediction_type === 'v_prediction';
		const discrete = spaced === undefined ? visited : spaced.map((sigma) => timestepOf(table, sigma));
		const timesteps = continuous ? sigmas.slice(0, steps).map((sigma) => 0.25 * Math.log(sigma)) : discrete;
		const common = sigmaWalk(timesteps, sigmas, options);
		return {
			...common,
			needsNoise: () => false,
			step(modelOutput, i, sample, state) {
				// x + (x - x0) / sigma (next - sigma), with the sample and x0 collected.
				const kept = sigmas[i + 1]! / sigmas[i]!;
				return { sample: mix([kept, sample], [1 - kept, common.predictOriginal(modelOutput, i, sample)]), state };
			},
		};
	},
});

/**
 * What the Euler samplers share. Samples are x0 + sigma n, and are scaled to unit variance for the model.
 * @param sigmas the level of each step, and the level after the last
 */
export function sigmaWalk(
	timesteps: readonly number[],
	sigmas: readonly number[],
	options: { readonly prediction_type: PredictionType; readonly timestep_spacing: Spacing },
): Pick<SamplerParts, 'timesteps' | 'sigmas' | 'initNoiseSigma' | 'inputScale' | 'levelAt' | 'predictOriginal'> {
	const highest = Math.max(...sigmas);
	const inputScale = (i: number) => 1 / Math.sqrt(sigmas[i]! ** 2 + 1);
	return {
		timesteps: timesteps.map(Math.fround),
		sigmas,
		initNoiseSigma: options.timestep_spacing === 'leading' ? Math.sqrt(highest ** 2 + 1) : highest,
		inputScale,
		levelAt(t) {
			const sigma = sigmas[timesteps.findIndex((own) => Math.fround(own) === Math.fround(t))];
			return sigma === undefined ? undefined : { alpha: 1, sigma };
		},
		predictOriginal(modelOutput, i, sample) {
			const scale = inputScale(i);
			const { sample: weight, output } = originalMix(options.prediction_type, { alpha: scale, sigma: sigmas[i]! * scale });
			return mixOutput({ sample: weight * scale, output }, sample, modelOutput);
		},
	};
}
