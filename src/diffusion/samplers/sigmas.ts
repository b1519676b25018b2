/** @file Noise levels of samplers that walk over sigma, the ratio of noise to image: tables, interpolation, and ways to space levels. */
import { DiffusionPipeError } from '../../core/errors.ts';
import { alphasCumprod, type BetaConfig, type BetaSchedule, betas, linspace } from '../schedule.ts';
import { symmetricBetaQuantile } from './beta-quantile.ts';
import { choice, flag, integer, nullable, number, numbers } from './options.ts';

/** The options of a beta schedule. `sigmoid` is known to DDPM alone. */
export const betaOptions = {
	num_train_timesteps: integer(1000, 2),
	beta_start: number(0.0001, 0),
	beta_end: number(0.02, 0),
	beta_schedule: choice<BetaSchedule>('linear', ['linear', 'scaled_linear', 'squaredcos_cap_v2']),
	trained_betas: nullable(numbers([])),
	rescale_betas_zero_snr: flag(false),
} as const;

/** The options that limit a predicted x0 by dynamic thresholding. */
export const thresholdingOptions = {
	thresholding: flag(false),
	dynamic_thresholding_ratio: number(0.995, 0),
	sample_max_value: number(1),
} as const;

/** The options that space noise levels by a formula instead of by timesteps; at most one may be true. */
export const sigmaSpacingOptions = {
	use_karras_sigmas: flag(false),
	use_exponential_sigmas: flag(false),
	use_beta_sigmas: flag(false),
} as const;

/** The values of `sigmaSpacingOptions`. */
export type SigmaSpacing = { readonly [K in keyof typeof sigmaSpacingOptions]: boolean };

/** alpha_bar as samplers over sigma use it: with zero terminal SNR, the last one is 2^-24, so that its sigma is finite. */
export function alphaBarsAboveZero(config: BetaConfig): Float64Array {
	const alphaBars = alphasCumprod(betas(config));
	if (config.rescale_betas_zero_snr) alphaBars[alphaBars.length - 1] = 2 ** -24;
	return alphaBars;
}

/** sigma_t = sqrt((1 - alpha_bar_t) / alpha_bar_t) of every training timestep, ascending. */
export function sigmaTable(config: BetaConfig): Float64Array {
	return alphaBarsAboveZero(config).map((alphaBar) => Math.sqrt((1 - alphaBar) / alphaBar));
}

/** The table's value at a timestep that may lie between two, by linear interpolation. */
export function sigmaAt(table: Float64Array, t: number): number {
	const low = Math.floor(t);
	return table[low]! + (t - low) * ((table[low + 1] ?? table[low]!) - table[low]!);
}

/** The timestep, a fraction in general, whose log sigma interpolates to that of `sigma`; the nearest end outside the table. */
export function timestepOf(table: Float64Array, sigma: number): number {
	let low = 0;
	let high = table.length - 1;
	while (high - low > 1) {
		const middle = (low + high) >> 1;
		if (table[middle]! <= sigma) low = middle;
		else high = middle;
	}
	const from = Math.log(table[low]!);
	const share = (Math.log(Math.max(sigma, 1e-10)) - from) / (Math.log(table[high]!) - from);
	return low + Math.min(Math.max(share, 0), 1);
}

/** Levels from `max` down to `min` by the one spacing that is switched on, or undefined when none is. */
export function spacedSigmas(place: string, spacing: SigmaSpacing, min: number, max: number, steps: number): number[] | undefined {
	const on = Object.keys(sigmaSpacingOptions).filter((name) => spacing[name as keyof SigmaSpacing]);
	if (on.length > 1) {
		throw new DiffusionPipeError('config', 'sigmas are spaced in two ways', {
			place,
			expected: `at most one of ${Object.keys(sigmaSpacingOptions).join(', ')}`,
			found: on.join(', '),
		});
	}
	if (spacing.use_karras_sigmas) return karrasSigmas(min, max, steps);
	if (spacing.use_exponential_sigmas) return [...linspace(Math.log(max), Math.log(min), steps)].map(Math.exp);
	if (spacing.use_beta_sigmas) return betaSigmas(min, max, steps);
	return undefined;
}

/** Even spacing of sigma^(1/7) (Karras et al., arXiv 2206.00364, equation 5). */
function karrasSigmas(min: number, max: number, steps: number): number[] {
	return [...linspace(max ** (1 / 7), min ** (1 / 7), steps)].map((root) => root ** 7);
}

/** Quantiles of the beta(0.6, 0.6) distribution (Lee et al., "Beta sampling is all you need", arXiv 2407.12173). */
function betaSigmas(min: number, max: number, steps: number): number[] {
	return [...linspace(1, 0, steps)].map((p) => min + symmetricBetaQuantile(p, 0.6) * (max - min));
}

/**
 * What `use_dynamic_shifting` takes as `mu` for an image of `imageSeqLen` tokens: linear between (base_image_seq_len, base_shift) and
 * (max_image_seq_len, max_shift), and beyond. The defaults are those of the flow scheduler.
 */
export function dynamicShift(
	imageSeqLen: number,
	{
		base_image_seq_len = 256,
		max_image_seq_len = 4096,
		base_shift = 0.5,
		max_shift = 1.15,
	}: {
		readonly base_image_seq_len?: number;
		readonly max_image_seq_len?: number;
		readonly base_shift?: number;
		readonly max_shift?: number;
	} = {},
): number {
	return base_shift + ((imageSeqLen - base_image_seq_len) * (max_shift - base_shift)) / (max_image_seq_len - base_image_seq_len);
}

/** sigma shifted by mu: e^mu / (e^mu + 1/sigma - 1), or with mu itself in place of e^mu when `linear`. */
export function timeShift(type: 'exponential' | 'linear', mu: number, sigma: number): number {
	const shift = type === 'exponential' ? Math.exp(mu) : mu;
	return shift / (shift + (1 / sigma - 1));
}

/** Flow levels stretched so that the last one is `terminal` and a level of 1 stays. */
export function stretchToTerminal(sigmas: readonly number[], terminal: number): number[] {
	const scale = (1 - sigmas.at(-1)!) / (1 - terminal);
	return sigmas.map((sigma) => 1 - (1 - sigma) / scale);
}

/** Checks that levels given by the caller are as many as the steps, and descend within (0, 1]. */
export function requireOnePerStep(place: string, steps: number, sigmas: readonly number[] | undefined): void {
	if (sigmas === undefined) return;
	const usable = sigmas.every((sigma, i) => sigma > 0 && sigma <= 1 && (i === 0 || sigma < sigmas[i - 1]!));
	if (sigmas.length === steps && usable) return;
	throw new DiffusionPipeError('config', 'bad sigmas', {
		place: `${place} sigmas`,
		expected: `${steps} descending numbers above 0 and up to 1, one per step`,
		found: `[${sigmas.join(', ')}]`,
	});
}

/** Checks that `mu` is given exactly when the config shifts dynamically. */
export function requireMu(place: string, dynamic: boolean, mu: number | undefined): void {
	if (dynamic === (mu !== undefined)) return;
	throw new DiffusionPipeError('config', dynamic ? 'mu is missing' : 'mu does not apply', {
		place,
		expected: dynamic ? 'mu, since use_dynamic_shifting is true' : 'no mu, since use_dynamic_shifting is false',
		found: String(mu),
		...(dynamic ? { hint: 'give mu; it follows from the image size by dynamicShift' } : {}),
	});
}
