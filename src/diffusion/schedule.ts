/** @file Noise schedules of variance-preserving diffusion: betas by the names of scheduler_config.json, and what follows from them. */
import { DiffusionPipeError } from '../core/errors.ts';

/** The ways to spread betas over the training timesteps, as diffusers names them. */
export type BetaSchedule = 'linear' | 'scaled_linear' | 'squaredcos_cap_v2' | 'sigmoid';

/** The part of a scheduler_config.json that fixes the noise schedule. */
export interface BetaConfig {
	readonly num_train_timesteps: number;
	readonly beta_start: number;
	readonly beta_end: number;
	readonly beta_schedule: BetaSchedule;
	/** Betas given outright, one per training timestep; they replace the three options above. */
	readonly trained_betas: readonly number[] | null;
	readonly rescale_betas_zero_snr: boolean;
}

/** beta_t for t = 0 .. num_train_timesteps - 1, the variance added at each training step. */
export function betas(config: BetaConfig): Float64Array {
	const spread = config.trained_betas === null ? spreadBetas(config) : givenBetas(config.trained_betas, config.num_train_timesteps);
	return config.rescale_betas_zero_snr ? rescaleZeroTerminalSnr(spread) : spread;
}

/** alpha_bar_t = product of (1 - beta_s) for s <= t: the share of the image's variance left at each timestep. */
export function alphasCumprod(betas: ArrayLike<number>): Float64Array {
	let product = 1;
	return Float64Array.from(betas, (beta) => {
		product *= 1 - beta;
		return product;
	});
}

/**
 * Betas whose last timestep is pure noise: sqrt(alpha_bar) is shifted and scaled so that it ends at 0 and keeps its first value
 * (Lin et al., "Common diffusion noise schedules and sample steps are flawed", arXiv 2305.08891, algorithm 1).
 */
export function rescaleZeroTerminalSnr(betas: ArrayLike<number>): Float64Array {
	const roots = alphasCumprod(betas).map(Math.sqrt);
	const first = roots[0]!;
	const last = roots.at(-1)!;
	const alphaBars = roots.map((root) => (((root - last) * first) / (first - last)) ** 2);
	return alphaBars.map((alphaBar, t) => 1 - alphaBar / (t === 0 ? 1 : alphaBars[t - 1]!));
}

/** `count` points from `start` to `end`, both included; just `start` when there is one. */
export function linspace(start: number, end: number, count: number): Float64Array {
	return Float64Array.from({ length: count }, (_, i) =>
		i === 0 ? start : i === count - 1 ? end : start + ((end - start) * i) / (count - 1),
	);
}

function spreadBetas({ num_train_timesteps: count, beta_start: start, beta_end: end, beta_schedule: schedule }: BetaConfig): Float64Array {
	switch (schedule) {
		case 'linear':
			return linspace(start, end, count);
		case 'scaled_linear':
			return linspace(Math.sqrt(start), Math.sqrt(end), count).map((root) => root * root);
		case 'sigmoid':
			return linspace(-6, 6, count).map((x) => (end - start) / (1 + Math.exp(-x)) + start);
		case 'squaredcos_cap_v2':
			return Float64Array.from({ length: count }, (_, t) =>
				Math.min(1 - cosineAlphaBar((t + 1) / count) / cosineAlphaBar(t / count), 0.999),
			);
		default:
			throw new DiffusionPipeError('config', 'unknown beta schedule', {
				place: 'beta_schedule',
				expected: 'linear, scaled_linear, squaredcos_cap_v2 or sigmoid',
				found: String(schedule),
			});
	}
}

/** Nichol and Dhariwal's cosine schedule (arXiv 2102.09672, equation 17, offset 0.008) at t in [0, 1]. */
function cosineAlphaBar(t: number): number {
	return Math.cos((((t + 0.008) / 1.008) * Math.PI) / 2) ** 2;
}

function givenBetas(given: readonly number[], count: number): Float64Array {
	if (given.length !== count) {
		throw new DiffusionPipeError('config', 'wrong number of betas', {
			place: 'trained_betas',
			expected: `${count}, one per training timestep`,
			found: `${given.length}`,
			hint: 'set num_train_timesteps to the number of betas',
		});
	}
	return Float64Array.from(given);
}
