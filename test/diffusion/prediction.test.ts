import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
	flowProcess,
	type NoiseLevel,
	noiseMix,
	originalMix,
	type PredictionType,
	targetMix,
	trainingCoefficients,
	variancePreservingProcess,
} from '../../src/diffusion/prediction.ts';
import { lossWeight, signalToNoise } from '../../src/diffusion/weights.ts';

const process = variancePreservingProcess({
	num_train_timesteps: 1000,
	beta_start: 0.00085,
	beta_end: 0.012,
	beta_schedule: 'scaled_linear',
	trained_betas: null,
	rescale_betas_zero_snr: false,
});
const flow = flowProcess(1000);
const types = ['epsilon', 'sample', 'v_prediction', 'flow_prediction'] as const;
const level = fc.oneof(
	fc.integer({ min: 0, max: 999 }).map((t) => process.level(t)),
	fc.integer({ min: 1, max: 999 }).map((t) => flow.level(t)),
);

describe('mixes', () => {
	it('recover x0 and the noise from the sample and the exact target', () => {
		const value = fc.double({ min: -3, max: 3, noNaN: true });
		fc.assert(
			fc.property(fc.constantFrom<PredictionType>(...types), level, value, value, (type, level, x0, noise) => {
				const sample = level.alpha * x0 + level.sigma * noise;
				const target = targetMix(type, level);
				const output = target.x0 * x0 + target.noise * noise;
				const toOriginal = originalMix(type, level);
				const toNoise = noiseMix(type, level);
				expect(toOriginal.sample * sample + toOriginal.output * output).toBeCloseTo(x0, 8);
				expect(toNoise.sample * sample + toNoise.output * output).toBeCloseTo(noise, 8);
			}),
		);
	});

	it('v is sqrt(alpha_bar) n - sqrt(1 - alpha_bar) x0, and a flow is n - x0', () => {
		const { alpha, sigma } = process.level(300);
		expect(targetMix('v_prediction', { alpha, sigma })).toEqual({ x0: -sigma, noise: alpha });
		expect(targetMix('flow_prediction', flow.level(300))).toEqual({ x0: -1, noise: 1 });
	});

	it('stay finite at pure noise and at the clean image where the answer is plain', () => {
		expect(originalMix('v_prediction', { alpha: 0, sigma: 1 }).output).toBe(-1);
		expect(originalMix('sample', { alpha: 1, sigma: 0 })).toEqual({ sample: 0, output: 1 });
		expect(noiseMix('epsilon', { alpha: 0, sigma: 1 })).toEqual({ sample: 0, output: 1 });
	});
});

describe('processes', () => {
	it('variance-preserving levels keep unit variance, flow levels add to 1', () => {
		for (const t of [0, 10, 500, 999]) {
			const { alpha, sigma } = process.level(t);
			expect(alpha ** 2 + sigma ** 2).toBeCloseTo(1, 12);
			const path = flow.level(t + 0.5);
			expect(path.alpha + path.sigma).toBeCloseTo(1, 12);
			expect(path.sigma).toBeCloseTo((t + 0.5) / 1000, 12);
		}
	});

	it('refuse timesteps they do not have', () => {
		expect(() => process.level(1000)).toThrow(/bad timestep[\s\S]*0 to 999[\s\S]*1000/);
		expect(() => process.level(1.5)).toThrow(/bad timestep/);
		expect(() => flow.level(-1)).toThrow(/bad timestep/);
	});

	it('give a batch its coefficients', () => {
		const batch = trainingCoefficients(process, 'v_prediction', Int32Array.of(0, 700));
		const levels = [process.level(0), process.level(700)];
		expect([...batch.alpha]).toEqual(levels.map((l) => Math.fround(l.alpha)));
		expect([...batch.sigma]).toEqual(levels.map((l) => Math.fround(l.sigma)));
		expect([...batch.targetX0]).toEqual(levels.map((l) => Math.fround(-l.sigma)));
		expect([...batch.targetNoise]).toEqual(levels.map((l) => Math.fround(l.alpha)));
	});
});

describe('loss weights', () => {
	const minSnr = { kind: 'min_snr', gamma: 5 } as const;

	it('min-SNR counts an error in x0 the same, whatever the model predicts', () => {
		// An error d in the prediction is an error (output coefficient) d in x0.
		fc.assert(
			fc.property(
				fc.integer({ min: 0, max: 999 }).map((t) => process.level(t)),
				(level) => {
					const perX0 = Math.min(signalToNoise(level), 5);
					for (const type of ['epsilon', 'sample', 'v_prediction'] as const) {
						expect(lossWeight(minSnr, type, level) / originalMix(type, level).output ** 2 / perX0).toBeCloseTo(1, 8);
					}
				},
			),
		);
	});

	it('follows the formulas w/SNR, w/(SNR+1) and w', () => {
		const level: NoiseLevel = { alpha: Math.sqrt(0.9), sigma: Math.sqrt(0.1) };
		expect(signalToNoise(level)).toBeCloseTo(9, 10);
		expect(lossWeight(minSnr, 'epsilon', level)).toBeCloseTo(5 / 9, 10);
		expect(lossWeight(minSnr, 'v_prediction', level)).toBeCloseTo(0.5, 10);
		expect(lossWeight(minSnr, 'sample', level)).toBeCloseTo(5, 10);
		expect(lossWeight({ kind: 'uniform' }, 'epsilon', level)).toBe(1);
	});

	it('is finite at zero terminal SNR', () => {
		const noise: NoiseLevel = { alpha: 0, sigma: 1 };
		expect(lossWeight(minSnr, 'epsilon', noise)).toBe(1);
		expect(lossWeight(minSnr, 'v_prediction', noise)).toBe(0);
	});

	it('has the SD3 weightings', () => {
		const at = (sigma: number) => ({ alpha: 1 - sigma, sigma });
		expect(lossWeight({ kind: 'sigma_sqrt' }, 'flow_prediction', at(0.5))).toBeCloseTo(4, 10);
		expect(lossWeight({ kind: 'cosmap' }, 'flow_prediction', at(0.5))).toBeCloseTo(4 / Math.PI, 10);
		expect(lossWeight({ kind: 'cosmap' }, 'flow_prediction', at(0.1))).toBeCloseTo(2 / (Math.PI * 0.82), 10);
	});

	it('refuses min-SNR for flows', () => {
		expect(() => lossWeight(minSnr, 'flow_prediction', flow.level(500))).toThrow(/not defined for flows[\s\S]*cosmap/);
	});
});
