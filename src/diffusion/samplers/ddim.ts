/** @file DDIMScheduler: implicit sampling, deterministic unless eta is above 0 (Song et al., arXiv 2010.02502). */
import { noiseMix, variancePreservingProcess } from '../prediction.ts';
import { alphaBarOptions, alphaBarParts, levelOf } from './alpha-bars.ts';
import { mix, mixOutput } from './combine.ts';
import { flag } from './options.ts';
import { samplerClass } from './sampler.ts';

/** DDIMScheduler. Run options: `eta`, `useClippedModelOutput`. */
export const ddim = samplerClass({
	className: 'DDIMScheduler',
	options: { ...alphaBarOptions, set_alpha_to_one: flag(true) },
	runOptions: ['eta', 'useClippedModelOutput'],
	predictionType: (options) => options.prediction_type,
	process: variancePreservingProcess,
	parts(options, run) {
		const { alphaBars, ...common } = alphaBarParts('DDIMScheduler', options, run);
		const { timesteps, predictOriginal } = common;
		const eta = run.eta ?? 0;
		// The step goes back by a whole stride whatever the spacing; below timestep 0 lies the clean image, or what passes for it.
		const stride = Math.floor(options.num_train_timesteps / run.steps);
		const finalAlphaBar = options.set_alpha_to_one ? 1 : alphaBars[0]!;
		return {
			...common,
			needsNoise: () => eta > 0,
			step(modelOutput, i, sample, state, noise) {
				const t = timesteps[i]!;
				const level = levelOf(alphaBars[t]!);
				const previous = alphaBars[t - stride] ?? finalAlphaBar;
				const x0 = predictOriginal(modelOutput, i, sample);
				const epsilon = run.useClippedModelOutput
					? mix([1 / level.sigma, sample], [-level.alpha / level.sigma, x0])
					: mixOutput(noiseMix(options.prediction_type, level), sample, modelOutput);
				// Equation 16, then equation 12.
				const variance = ((1 - previous) / (1 - alphaBars[t]!)) * (1 - alphaBars[t]! / previous);
				const deviation = eta * Math.sqrt(variance);
				const towards = [
					[Math.sqrt(previous), x0],
					[Math.sqrt(Math.max(1 - previous - deviation ** 2, 0)), epsilon],
				] as const;
				return { sample: eta > 0 ? mix(...towards, [deviation, noise]) : mix(...towards), state };
			},
		};
	},
});
