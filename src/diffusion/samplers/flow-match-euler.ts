/** @file FlowMatchEulerDiscreteScheduler: Euler steps along the straight paths of flow matching, as SD3 and Flux use them. */
import { flowProcess, originalMix } from '../prediction.ts';
import { linspace } from '../schedule.ts';
import { shiftSigma } from '../timesteps.ts';
import { mix, mixOutput } from './combine.ts';
import { choice, flag, integer, nullable, number } from './options.ts';
import { samplerClass } from './sampler.ts';
import { requireMu, requireOnePerStep, sigmaSpacingOptions, spacedSigmas, stretchToTerminal, timeShift } from './sigmas.ts';

/** FlowMatchEulerDiscreteScheduler. The model predicts the velocity n - x0. Run options: `mu`, `sigmas`. */
export const flowMatchEuler = samplerClass({
	className: 'FlowMatchEulerDiscreteScheduler',
	options: {
		num_train_timesteps: integer(1000, 1),
		shift: number(1, 0),
		use_dynamic_shifting: flag(false),
		base_shift: number(0.5),
		max_shift: number(1.15),
		base_image_seq_len: integer(256, 1),
		max_image_seq_len: integer(4096, 1),
		invert_sigmas: flag(false),
		shift_terminal: nullable(number(0)),
		...sigmaSpacingOptions,
		time_shift_type: choice('exponential', ['exponential', 'linear']),
		stochastic_sampling: flag(false),
	},
	runOptions: ['mu', 'sigmas'],
	predictionType: () => 'flow_prediction',
	process: (options) => flowProcess(options.num_train_timesteps),
	parts(options, { steps, mu, sigmas: given }) {
		const place = 'FlowMatchEulerDiscreteScheduler';
		const { num_train_timesteps: trained, shift, use_dynamic_shifting: dynamic } = options;
		requireMu(place, dynamic, mu);
		requireOnePerStep(place, steps, given);
		// Without given levels the range is that of the training levels, which are shifted already unless shifting is dynamic.
		const lowest = dynamic ? 1 / trained : shiftSigma(1 / trained, shift);
		let levels = [...(given ?? linspace(1, lowest, steps))];
		levels = levels.map((sigma) => (dynamic ? timeShift(options.time_shift_type, mu!, sigma) : shiftSigma(sigma, shift)));
		if (options.shift_terminal) levels = stretchToTerminal(levels, options.shift_terminal);
		levels = spacedSigmas(place, options, levels.at(-1)!, levels[0]!, steps) ?? levels;
		if (options.invert_sigmas) levels = levels.map((sigma) => 1 - Math.fround(sigma));
		const sigmas = [...levels, options.invert_sigmas ? 1 : 0].map(Math.fround);
		const timesteps = sigmas.slice(0, steps).map((sigma) => Math.fround(sigma * trained));

		const predictOriginal = (modelOutput: Float32Array, i: number, sample: Float32Array) =>
			mixOutput(originalMix('flow_prediction', { alpha: 1 - sigmas[i]!, sigma: sigmas[i]! }), sample, modelOutput);

		return {
			timesteps,
			sigmas,
			initNoiseSigma: 1,
			needsNoise: () => options.stochastic_sampling,
			levelAt(t) {
				const sigma = sigmas[timesteps.indexOf(Math.fround(t))];
				return sigma === undefined ? undefined : { alpha: 1 - sigma, sigma };
			},
			predictOriginal,
			step(modelOutput, i, sample, state, noise) {
				const next = sigmas[i + 1]!;
				const moved = options.stochastic_sampling
					? mix([1 - next, predictOriginal(modelOutput, i, sample)], [next, noise])
					: mix([1, sample], [next - sigmas[i]!, modelOutput]);
				return { sample: moved, state };
			},
		};
	},
});
