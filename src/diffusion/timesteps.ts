/**
 * @file Timesteps for training, drawn from a random stream by (step, sample): sample i of a step gets the same timestep wherever it is
 * computed.
 */
import type { RandomStream } from '../core/random.ts';
import { normalCdf } from '../graph/ops/erf.ts';

/**
 * The density of noise levels that flow matching trains on (Esser et al., arXiv 2403.03206, section 3.1), before shifting. Sigma is the share
 * of noise, as in the paper: a positive `logitMean` makes samples noisier. (Trainers that use the drawn number as an index into the
 * scheduler's descending timesteps turn it round: their logit_mean is the negative of ours. The other densities are symmetric.)
 */
export type SigmaDensity =
	| { readonly kind: 'uniform' }
	/** sigmoid of a normal variable; 0 and 1 are customary. */
	| { readonly kind: 'logit_normal'; readonly logitMean: number; readonly logitStd: number }
	/** More weight on the middle for positive scales, on the ends for negative ones; 1.29 is customary. */
	| { readonly kind: 'mode'; readonly modeScale: number };

/** `count` whole timesteps, uniform in [`low`, `high`), of samples `offset`, `offset` + 1, ... of `step`. Low is 0 unless given. */
export function uniformTimesteps(
	stream: RandomStream,
	step: number,
	count: number,
	{ low = 0, high, offset = 0 }: { readonly low?: number; readonly high: number; readonly offset?: number },
): Int32Array {
	return Int32Array.from({ length: count }, (_, i) => low + Math.floor(stream.uniform(step, offset + i) * (high - low)));
}

/** `count` noise shares sigma in (0, 1] of samples `offset`, `offset` + 1, ... of `step`, drawn from `density`, then shifted (1: not at all). */
export function drawSigmas(
	stream: RandomStream,
	step: number,
	count: number,
	{ density, shift = 1, offset = 0 }: { readonly density: SigmaDensity; readonly shift?: number; readonly offset?: number },
): Float64Array {
	return Float64Array.from({ length: count }, (_, i) => shiftSigma(drawSigma(stream, step, offset + i, density), shift));
}

/** sigma moved towards noise for shift above 1: shift sigma / (1 + (shift - 1) sigma); SD3 uses 3, and exp(mu) is Flux's dynamic shift. */
export function shiftSigma(sigma: number, shift: number): number {
	return (shift * sigma) / (1 + (shift - 1) * sigma);
}

/**
 * The noise share that a share `quantile` of those that `drawSigmas` draws lie below: sigma at fixed quantiles, to measure a loss at always the same
 * noise levels. Exact for densities whose sigma is monotone in the number drawn: all but `mode` with scales beyond [-1, 2 / (pi - 2)].
 */
export function sigmaAtQuantile(
	quantile: number,
	{ density, shift = 1 }: { readonly density: SigmaDensity; readonly shift?: number },
): number {
	const { kind } = density;
	if (kind === 'logit_normal') return shiftSigma(logitNormal(density, normalQuantile(quantile)), shift);
	return shiftSigma(kind === 'mode' ? modeSigma(density, 1 - quantile) : quantile, shift);
}

/** The x with Phi(x) = p, by bisection; p beyond 1e-15 from 0 and 1 is not told apart. */
function normalQuantile(p: number): number {
	let [low, high] = [-8, 8];
	for (let i = 0; i < 60; i++) {
		const middle = (low + high) / 2;
		if (normalCdf(middle) < p) low = middle;
		else high = middle;
	}
	return (low + high) / 2;
}

type DensityOf<K> = Extract<SigmaDensity, { readonly kind: K }>;

function logitNormal({ logitMean, logitStd }: DensityOf<'logit_normal'>, normal: number): number {
	return 1 / (1 + Math.exp(-(logitMean + logitStd * normal)));
}

function modeSigma({ modeScale }: DensityOf<'mode'>, u: number): number {
	return 1 - u - modeScale * (Math.cos((Math.PI * u) / 2) ** 2 - 1 + u);
}

function drawSigma(stream: RandomStream, step: number, sample: number, density: SigmaDensity): number {
	switch (density.kind) {
		case 'uniform':
			return 1 - stream.uniform(step, sample);
		case 'logit_normal':
			return logitNormal(density, stream.normal(step, sample));
		case 'mode':
			return modeSigma(density, stream.uniform(step, sample));
	}
}
