/** @file PNDMScheduler: pseudo numerical methods, multistep after Runge-Kutta steps or alone (Liu et al., arXiv 2202.09778). */
import { DiffusionPipeError } from '../../core/errors.ts';
import { type NoiseLevel, noiseMix, originalMix, variancePreservingProcess } from '../prediction.ts';
import { alphasCumprod, type BetaConfig, betas } from '../schedule.ts';
import { levelOf } from './alpha-bars.ts';
import { mix, mixOutput, type Term } from './combine.ts';
import { choice, flag } from './options.ts';
import { samplerClass } from './sampler.ts';
import { betaOptions } from './sigmas.ts';
import { spacedTimesteps, spacingOptions } from './spacing.ts';

const place = 'PNDMScheduler';

/** Weights of the latest model output and the ones before it, by how many there are (Adams-Bashforth; the last is equation 12 of the paper). */
const multistepWeights = [[1], [3 / 2, -1 / 2], [23 / 12, -16 / 12, 5 / 12], [55 / 24, -59 / 24, 37 / 24, -9 / 24]] as const;
/** Weights of the four outputs of a Runge-Kutta step. */
const rungeKuttaWeights = [1 / 6, 1 / 3, 1 / 3, 1 / 6] as const;

/** One call of the model: the timestep it gets, and the step between two timesteps that follows. A `to` below 0 is the clean image. */
interface Evaluation {
	readonly t: number;
	readonly from: number;
	readonly to: number;
	/** A multistep combination; the first step again, from the mean of its two ends; or the number of a Runge-Kutta stage, 0 to 3. */
	readonly kind: 'multistep' | 'mean' | number;
}

const { rescale_betas_zero_snr: _, ...pndmBetaOptions } = betaOptions;
const betaConfig = (options: Omit<BetaConfig, 'rescale_betas_zero_snr'>): BetaConfig => ({ ...options, rescale_betas_zero_snr: false });

/**
 * PNDMScheduler. With `skip_prk_steps`, as Stable Diffusion runs it, n steps call the model n + 1 times: the first step is taken again from the
 * mean of the outputs at its two ends. Without, up to three steps by Runge-Kutta come first, four calls each.
 */
export const pndm = samplerClass({
	className: place,
	options: {
		...pndmBetaOptions,
		...spacingOptions('leading'),
		prediction_type: choice('epsilon', ['epsilon', 'sample', 'v_prediction']),
		skip_prk_steps: flag(false),
		set_alpha_to_one: flag(false),
	},
	runOptions: [],
	predictionType: (options) => options.prediction_type,
	process: (options) => variancePreservingProcess(betaConfig(options)),
	parts(options, { steps }) {
		const { prediction_type: type } = options;
		const visited = spacedTimesteps(place, steps, options);
		const stride = Math.floor(options.num_train_timesteps / steps);
		const evaluations = options.skip_prk_steps ? multistepCalls(visited, stride) : rungeKuttaCalls(visited, stride);
		const alphaBars = alphasCumprod(betas(betaConfig(options)));
		const level = (t: number): NoiseLevel => levelOf(alphaBars[t] ?? (options.set_alpha_to_one ? 1 : alphaBars[0]!));

		/** The sample at `to` of the path from `start` at `from` whose noise is that of the combined outputs (the paper's transfer part). */
		const transfer = ({ from, to }: Evaluation, start: Float32Array, outputs: readonly Term[]): Float32Array => {
			const [here, there] = [level(from), level(to)];
			const kept = there.alpha / here.alpha;
			const added = there.sigma - kept * here.sigma;
			// Outputs of other timesteps are taken for outputs at `from`, whatever they predict, as diffusers does: for the noise that is the
			// paper's method, for v_prediction it is not the same as combining the noises.
			const noise = noiseMix(type, here);
			return mix([kept + added * noise.sample, start], ...outputs.map(([w, output]) => [added * noise.output * w, output] as const));
		};

		return {
			timesteps: evaluations.map(({ t }) => t),
			stepStarts: evaluations.flatMap((evaluation, i) => (beginsStep(evaluation) ? [i] : [])),
			initNoiseSigma: 1,
			needsNoise: () => false,
			levelAt: (t) => (alphaBars[t] === undefined ? undefined : levelOf(alphaBars[t])),
			predictOriginal: (modelOutput, i, sample) => mixOutput(originalMix(type, level(evaluations[i]!.t)), sample, modelOutput),
			step(modelOutput, i, sample, { history, order, lastSample }) {
				const evaluation = evaluations[i]!;
				const { kind } = evaluation;
				const start = beginsStep(evaluation) ? sample : lastSample;
				const outputs = [...history, modelOutput];
				const weights = weightsOf(kind, outputs.length);
				if (start === null || outputs.length < weights.length) throw cannotBeginAt(i);
				const terms = weights.map((weight, back) => [weight, outputs[outputs.length - 1 - back]!] as const);
				const goesOn = kind === 'multistep' ? i === 0 : kind !== 'mean' && kind < 3;
				const state = { history: remembered(kind, outputs), order, lastSample: goesOn ? start : null };
				return { sample: transfer(evaluation, start, terms), state };
			},
		};
	},
});

/** True where an evaluation is not a further one of the step before it. */
function beginsStep({ kind }: Evaluation): boolean {
	return kind === 'multistep' || kind === 0;
}

/** The weights of the latest of `available` outputs, the latest first. */
function weightsOf(kind: Evaluation['kind'], available: number): readonly number[] {
	if (kind === 'multistep') return multistepWeights[Math.min(available, multistepWeights.length) - 1]!;
	if (kind === 'mean') return [1 / 2, 1 / 2];
	return kind === 3 ? rungeKuttaWeights : [1];
}

/** The outputs to keep: of each step one, which for Runge-Kutta is the first, and all of a step that goes on. */
function remembered(kind: Evaluation['kind'], outputs: readonly Float32Array[]): readonly Float32Array[] {
	if (kind === 'multistep') return outputs.slice(1 - multistepWeights.length);
	if (kind === 'mean') return outputs.slice(0, -1);
	return kind === 3 ? outputs.slice(0, -3) : outputs;
}

/** All steps by the multistep method, the first of them twice. Steps go back by a whole stride whatever the spacing. */
function multistepCalls(visited: readonly number[], stride: number): Evaluation[] {
	return visited.flatMap((t, i) => {
		const own: Evaluation = { t, from: t, to: t - stride, kind: 'multistep' };
		return i === 1 ? [{ t, from: t + stride, to: t, kind: 'mean' }, own] : [own];
	});
}

/** Runge-Kutta steps to the next timestep by way of the middle, then the multistep method. */
function rungeKuttaCalls(visited: readonly number[], stride: number): Evaluation[] {
	const half = Math.floor(stride / 2);
	// Three steps give the multistep ones the outputs they need; the last ends at the clean image, where the model cannot be asked.
	const first = Math.min(3, visited.length - 1);
	return visited.flatMap((t, i): Evaluation[] => {
		if (i >= first) return [{ t, from: t, to: t - stride, kind: 'multistep' }];
		const next = visited[i + 1]!;
		return [t, next + half, next + half, next].map((at, kind) => ({ t: at, from: t, to: kind % 2 === 0 ? at - half : at, kind }));
	});
}

function cannotBeginAt(i: number): DiffusionPipeError {
	return new DiffusionPipeError('input', 'the step has no beginning', {
		place: `${place} step ${i}`,
		expected: 'the state after the step before, which began what this one ends',
		found: 'another state',
		hint: 'take images up at one of stepStarts',
	});
}
