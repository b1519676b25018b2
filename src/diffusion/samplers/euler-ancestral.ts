/** @file EulerAncestralDiscreteScheduler: Euler steps below the next noise level, and fresh noise back up to it (Crowson's k-diffusion). */
import { variancePreservingProcess } from '../prediction.ts';
import { mix } from './combine.ts';
import { sigmaWalk } from './euler.ts';
import { choice } from './options.ts';
import { samplerClass } from './sampler.ts';
import { betaOptions, sigmaAt, sigmaTable } from './sigmas.ts';
import { spacedTimesteps, spacingOptions } from './spacing.ts';

const place = 'EulerAncestralDiscreteScheduler';

/** EulerAncestralDiscreteScheduler. */
export const eulerAncestralDiscrete = samplerClass({
	className: place,
	options: {
		...betaOptions,
		...spacingOptions('linspace'),
		prediction_type: choice('epsilon', ['epsilon', 'sample', 'v_prediction']),
	},
	runOptions: [],
	predictionType: (options) => options.prediction_type,
	process: variancePreservingProcess,
	parts(options, { steps }) {
		const table = sigmaTable(options);
		const timesteps = spacedTimesteps(place, steps, options, { whole: false });
		const sigmas = [...timesteps.map((t) => sigmaAt(table, t)), 0].map(Math.fround);
		const common = sigmaWalk(timesteps, sigmas, options);
		return {
			...common,
			needsNoise: (i) => sigmas[i + 1]! > 0,
			step(modelOutput, i, sample, state, noise) {
				const [from, to] = [sigmas[i]!, sigmas[i + 1]!];
				// The variance that the step to `to` of the ancestral process has, given x0; what it leaves of to^2 is the square of to^2 / from.
				const up = (to * Math.sqrt(from ** 2 - to ** 2)) / from;
				const down = to ** 2 / from;
				const kept = down / from;
				const moved = [
					[kept, sample],
					[1 - kept, common.predictOriginal(modelOutput, i, sample)],
				] as const;
				return { sample: up > 0 ? mix(...moved, [up, noise]) : mix(...moved), state };
			},
		};
	},
});
