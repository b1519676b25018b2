/**
 * @file What a model predicts: noising as x_t = alpha x0 + sigma n, training targets as mixtures of x0 and n, and the way back from a model's
 * output to x0 or n. Everything is coefficients, so that a graph can apply them to whole batches.
 */
import { DiffusionPipeError } from '../core/errors.ts';
import { alphasCumprod, type BetaConfig, betas } from './schedule.ts';

/** What the model's output estimates, by diffusers' names. */
export type PredictionType = 'epsilon' | 'v_prediction' | 'sample' | 'flow_prediction';

/** How much image and how much noise a noised sample holds: x_t = alpha x0 + sigma n. */
export interface NoiseLevel {
	readonly alpha: number;
	readonly sigma: number;
}

/** A linear combination of the clean sample x0 and the noise n. */
export interface TargetMix {
	readonly x0: number;
	readonly noise: number;
}

/** A linear combination of the noised sample x_t and the model's output. */
export interface OutputMix {
	readonly sample: number;
	readonly output: number;
}

/** A way of noising: the noise level of every training timestep. */
export interface NoiseProcess {
	readonly numTrainTimesteps: number;
	/** The level at timestep `t`, as the model gets it: a whole number below `numTrainTimesteps`, or for flows any number from 0 to it. */
	level(t: number): NoiseLevel;
}

/** The variance-preserving process of a beta schedule: alpha = sqrt(alpha_bar_t), sigma = sqrt(1 - alpha_bar_t). */
export function variancePreservingProcess(config: BetaConfig): NoiseProcess {
	const alphaBars = alphasCumprod(betas(config));
	return {
		numTrainTimesteps: alphaBars.length,
		level(t) {
			const alphaBar = alphaBars[t];
			if (alphaBar === undefined) throw badTimestep(t, `a whole number from 0 to ${alphaBars.length - 1}`);
			return { alpha: Math.sqrt(alphaBar), sigma: Math.sqrt(1 - alphaBar) };
		},
	};
}

/** The straight path between image and noise of flow matching: sigma = t / numTrainTimesteps, alpha = 1 - sigma. */
export function flowProcess(numTrainTimesteps: number): NoiseProcess {
	return {
		numTrainTimesteps,
		level(t) {
			if (!(t >= 0 && t <= numTrainTimesteps)) throw badTimestep(t, `a number from 0 to ${numTrainTimesteps}`);
			return { alpha: 1 - t / numTrainTimesteps, sigma: t / numTrainTimesteps };
		},
	};
}

/** The training target as a mixture of x0 and n: n; x0; v = alpha n - sigma x0; the flow's velocity n - x0. */
export function targetMix(type: PredictionType, { alpha, sigma }: NoiseLevel): TargetMix {
	switch (type) {
		case 'epsilon':
			return { x0: 0, noise: 1 };
		case 'sample':
			return { x0: 1, noise: 0 };
		case 'v_prediction':
			return { x0: -sigma, noise: alpha };
		case 'flow_prediction':
			return { x0: -1, noise: 1 };
	}
}

/**
 * x0 as a mixture of x_t and the model's output: the solution of x_t = alpha x0 + sigma n together with `targetMix`.
 * With `epsilon` it needs alpha above 0, and gives infinite coefficients otherwise.
 */
export function originalMix(type: PredictionType, level: NoiseLevel): OutputMix {
	if (type === 'sample') return { sample: 0, output: 1 };
	const target = targetMix(type, level);
	const determinant = level.alpha * target.noise - level.sigma * target.x0;
	return { sample: target.noise / determinant, output: -level.sigma / determinant };
}

/** The noise n as a mixture of x_t and the model's output. With `sample` it needs sigma above 0, and gives infinite coefficients otherwise. */
export function noiseMix(type: PredictionType, level: NoiseLevel): OutputMix {
	if (type === 'epsilon') return { sample: 0, output: 1 };
	const target = targetMix(type, level);
	const determinant = level.alpha * target.noise - level.sigma * target.x0;
	return { sample: -target.x0 / determinant, output: level.alpha / determinant };
}

/** Per sample, what a training step's graph needs: x_t = alpha x0 + sigma n and target = targetX0 x0 + targetNoise n. Each is [batch]. */
export interface TrainingCoefficients {
	readonly alpha: Float32Array;
	readonly sigma: Float32Array;
	readonly targetX0: Float32Array;
	readonly targetNoise: Float32Array;
}

/** The coefficients of samples at the given timesteps. */
export function trainingCoefficients(process: NoiseProcess, type: PredictionType, timesteps: ArrayLike<number>): TrainingCoefficients {
	const levels = Array.from(timesteps, (t) => process.level(t));
	const targets = levels.map((level) => targetMix(type, level));
	return {
		alpha: Float32Array.from(levels, (level) => level.alpha),
		sigma: Float32Array.from(levels, (level) => level.sigma),
		targetX0: Float32Array.from(targets, (target) => target.x0),
		targetNoise: Float32Array.from(targets, (target) => target.noise),
	};
}

function badTimestep(t: number, expected: string): DiffusionPipeError {
	return new DiffusionPipeError('input', 'bad timestep', { place: 'noise process', expected, found: String(t) });
}
