import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
	alphasCumprod,
	type BetaConfig,
	type BetaSchedule,
	betas,
	linspace,
	rescaleZeroTerminalSnr,
} from '../../src/diffusion/schedule.ts';

const base: BetaConfig = {
	num_train_timesteps: 1000,
	beta_start: 0.0001,
	beta_end: 0.02,
	beta_schedule: 'linear',
	trained_betas: null,
	rescale_betas_zero_snr: false,
};
const stableDiffusion: BetaConfig = { ...base, beta_schedule: 'scaled_linear', beta_start: 0.00085, beta_end: 0.012 };

describe('alphasCumprod', () => {
	// alphas_cumprod of diffusers' DDPMScheduler, which computes in float32, at these timesteps.
	const at = [0, 1, 250, 500, 750, 998, 999];
	it.each([
		['linear', base, [0.9999, 0.9997801, 0.521423, 0.07779665, 0.003300159, 4.118194e-5, 4.03583e-5]],
		['scaled_linear', stableDiffusion, [0.99915, 0.998296, 0.6737923, 0.2763325, 0.0561698, 0.004716696, 0.004660095]],
		[
			'squaredcos_cap_v2',
			{ ...base, beta_schedule: 'squaredcos_cap_v2' },
			[0.9999587, 0.9999126, 0.845888, 0.492285, 0.1431787, 2.428766e-6, 2.428735e-9],
		],
		['sigmoid', { ...base, beta_schedule: 'sigmoid' }, [0.9998508, 0.999701, 0.902799, 0.2988876, 0.00562292, 4.048962e-5, 3.968182e-5]],
		[
			'zero terminal SNR',
			{ ...stableDiffusion, rescale_betas_zero_snr: true },
			[0.99915, 0.9982335, 0.6524568, 0.2410186, 0.03279908, 1.967963e-7, 0],
		],
	] as const)('%s agrees with diffusers', (_, config, expected) => {
		const alphaBars = alphasCumprod(betas(config));
		for (const [i, t] of at.entries()) expect(Math.abs(alphaBars[t]! - expected[i]!)).toBeLessThan(1e-4 * expected[i]! + 1e-12);
	});

	it('falls from below 1 to 0 or above for any schedule', () => {
		const schedule = fc.constantFrom<BetaSchedule>('linear', 'scaled_linear', 'squaredcos_cap_v2', 'sigmoid');
		fc.assert(
			fc.property(
				schedule,
				fc.integer({ min: 2, max: 2000 }),
				fc.boolean(),
				(beta_schedule, num_train_timesteps, rescale_betas_zero_snr) => {
					const alphaBars = alphasCumprod(betas({ ...base, beta_schedule, num_train_timesteps, rescale_betas_zero_snr }));
					expect(alphaBars.length).toBe(num_train_timesteps);
					expect(alphaBars[0]).toBeLessThan(1);
					expect(alphaBars.every((a, t) => a >= 0 && (t === 0 || a < alphaBars[t - 1]!))).toBe(true);
					expect(alphaBars.at(-1) === 0).toBe(rescale_betas_zero_snr);
				},
			),
		);
	});
});

it('rescaling keeps the first level and the proportions of sqrt(alpha_bar)', () => {
	const before = alphasCumprod(betas(stableDiffusion)).map(Math.sqrt);
	const after = alphasCumprod(rescaleZeroTerminalSnr(betas(stableDiffusion))).map(Math.sqrt);
	expect(after[0]).toBeCloseTo(before[0]!, 12);
	const share = (roots: Float64Array, t: number) => (roots[t]! - roots.at(-1)!) / (roots[0]! - roots.at(-1)!);
	for (const t of [100, 500, 900]) expect(share(after, t)).toBeCloseTo(share(before, t), 10);
});

it('trained_betas replace the schedule, and must be one per timestep', () => {
	const given = [0.1, 0.2, 0.4];
	expect([...betas({ ...base, num_train_timesteps: 3, trained_betas: given })]).toEqual(given);
	expect(() => betas({ ...base, trained_betas: given })).toThrow(/trained_betas: wrong number of betas[\s\S]*1000/);
});

it('linspace includes both ends', () => {
	expect([...linspace(0, 1, 5)]).toEqual([0, 0.25, 0.5, 0.75, 1]);
	expect([...linspace(3, 1, 1)]).toEqual([3]);
	expect(linspace(0.1, 0.7, 7).at(-1)).toBe(0.7);
});
