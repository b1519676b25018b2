/** @file Ancestral Euler: the levels of turbo models, a step by hand for each prediction type, and the distribution that it draws from. */
import { describe, expect, it } from 'vitest';
import { randomStream } from '../../../src/core/random.ts';
import { createSampler, initialState, type SchedulerConfig } from '../../../src/diffusion/samplers/index.ts';

/** The scheduler_config.json of SDXL-turbo. */
const turbo: SchedulerConfig = {
	_class_name: 'EulerAncestralDiscreteScheduler',
	_diffusers_version: '0.24.0.dev0',
	beta_end: 0.012,
	beta_schedule: 'scaled_linear',
	beta_start: 0.00085,
	clip_sample: false,
	interpolation_type: 'linear',
	num_train_timesteps: 1000,
	prediction_type: 'epsilon',
	sample_max_value: 1.0,
	set_alpha_to_one: false,
	skip_prk_steps: true,
	steps_offset: 1,
	timestep_spacing: 'trailing',
	trained_betas: null,
};

describe('levels', () => {
	it('of turbo models begin at the noisiest timestep', () => {
		const one = createSampler(turbo, { steps: 1 });
		expect(one.timesteps).toEqual([999]);
		expect(one.sigmas![0]).toBeCloseTo(14.6146, 4);
		expect(one.sigmas![1]).toBe(0);
		expect(one.initNoiseSigma).toBe(one.sigmas![0]);
		expect(createSampler(turbo, { steps: 4 }).timesteps).toEqual([999, 749, 499, 249]);
	});

	it('are spaced as the config says', () => {
		const spaced = (timestep_spacing: string) => createSampler({ ...turbo, timestep_spacing }, { steps: 4 });
		const leading = spaced('leading');
		expect(leading.timesteps).toEqual([751, 501, 251, 1]);
		expect(leading.initNoiseSigma).toBeCloseTo(Math.hypot(leading.sigmas![0]!, 1), 6);
		const linspace = spaced('linspace');
		expect(linspace.timesteps).toEqual([999, 666, 333, 0]);
		expect(linspace.initNoiseSigma).toBe(linspace.sigmas![0]);
		// A table by hand: timesteps between two whole ones lie between their levels.
		const bars = [1 / 2, 1 / 5];
		const trained = { num_train_timesteps: 2, trained_betas: [1 / 2, 3 / 5], timestep_spacing: 'linspace' };
		const between = createSampler({ ...turbo, ...trained }, { steps: 3 });
		expect(between.timesteps).toEqual([1, 0.5, 0]);
		expect(between.sigmas!.map((s) => s.toFixed(6))).toEqual(
			[Math.sqrt(1 / bars[1]! - 1), 1.5, Math.sqrt(1 / bars[0]! - 1), 0].map((s) => s.toFixed(6)),
		);
	});

	it('are finite without signal at the end', () => {
		const { sigmas } = createSampler({ ...turbo, rescale_betas_zero_snr: true, prediction_type: 'v_prediction' }, { steps: 3 });
		expect(sigmas![0]).toBeCloseTo(4096, 1);
	});
});

describe('a step by hand', () => {
	// Two levels, sigma 2 and sigma 1.
	const config = { ...turbo, num_train_timesteps: 2, trained_betas: [1 / 2, 3 / 5], timestep_spacing: 'leading', steps_offset: 0 };
	const [x, output, n] = [3, 0.5, -0.8];
	it.each([
		['epsilon', x - 2 * output],
		['v_prediction', x / 5 - (2 * output) / Math.sqrt(5)],
		['sample', output],
	])('%s', (prediction_type, x0) => {
		const sampler = createSampler({ ...config, prediction_type }, { steps: 2 });
		expect([...sampler.sigmas!]).toEqual([2, 1, 0]);
		expect(sampler.scaleModelInput(Float32Array.of(x), 0)[0]).toBeCloseTo(x / Math.sqrt(5), 6);
		expect([sampler.needsNoise(0), sampler.needsNoise(1)]).toEqual([true, false]);
		const up = Math.sqrt((1 * (4 - 1)) / 4);
		const down = Math.sqrt(1 - up ** 2);
		const { sample, state } = sampler.step(Float32Array.of(output), 0, Float32Array.of(x), initialState, Float32Array.of(n));
		expect(sample[0]).toBeCloseTo(x + ((x - x0) / 2) * (down - 2) + up * n, 5);
		// The last step goes to what the model takes for the image.
		const last = sampler.step(Float32Array.of(output), 1, Float32Array.of(x), state).sample[0];
		expect(last).toBeCloseTo(sampler.predictOriginal(Float32Array.of(output), 1, Float32Array.of(x))[0]!, 6);
	});
});

it('draws from the distribution of normal data, more closely with more steps', () => {
	const [mean, deviation, size] = [0.4, 0.5, 6000];
	const stream = randomStream(4, 'ancestral');
	const moments = (steps: number) => {
		const sampler = createSampler({ ...turbo, timestep_spacing: 'linspace' }, { steps });
		let sample: Float32Array = stream.normals(new Float32Array(size), 0).map((v) => v * sampler.initNoiseSigma);
		for (let i = 0; i < steps; i++) {
			const sigma = sampler.sigmas![i]!;
			// The noise that the best model sees: (x - E[x0 | x]) / sigma.
			const output = sample.map((x) => (sigma * (x - mean)) / (deviation ** 2 + sigma ** 2));
			const noise = sampler.needsNoise(i) ? stream.normals(new Float32Array(size), 1 + i) : undefined;
			sample = sampler.step(output, i, sample, initialState, noise).sample;
		}
		const average = sample.reduce((sum, x) => sum + x, 0) / size;
		return { average, spread: Math.sqrt(sample.reduce((sum, x) => sum + (x - average) ** 2, 0) / size) };
	};
	const [coarse, fine] = [moments(10), moments(160)];
	expect(Math.abs(fine.average - mean)).toBeLessThan(0.02);
	expect(Math.abs(fine.spread / deviation - 1)).toBeLessThan(0.06);
	expect(Math.abs(fine.spread - deviation)).toBeLessThan(Math.abs(coarse.spread - deviation) / 3);
});
