import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { createSampler, initialState, type RunOptions, type Sampler, type SchedulerConfig } from '../../../src/diffusion/samplers/index.ts';
import { readFloats } from '../../helpers/safetensors-lite.ts';

const fixtures = new URL('../../fixtures/schedulers/', import.meta.url);
const readJson = (name: string): unknown => JSON.parse(readFileSync(new URL(name, fixtures), 'utf8'));

/** The network that stood in for a model when the fixtures were made: sin(3 x) * 0.8 + 0.1 x t / 1000, in float32. */
function standIn(x: Float32Array, t: number): Float32Array {
	return x.map((v) => Math.sin(3 * v) * 0.8 + (0.1 * v * t) / 1000);
}

/** The sample after each step. With `given`, each step starts from the given sample instead of the one we computed. */
function trajectory(
	sampler: Sampler,
	start: Float32Array,
	noise: (i: number) => Float32Array,
	given?: { samples: number[][]; timesteps: number[] },
): Float32Array[] {
	let sample = start;
	let state = initialState;
	return sampler.timesteps.map((t, i) => {
		if (i > 0 && given !== undefined) sample = Float32Array.from(given.samples[i - 1]!);
		const output = standIn(sampler.scaleModelInput(sample, i), given?.timesteps[i] ?? t);
		({ sample, state } = sampler.step(output, i, sample, state, sampler.needsNoise(i) ? noise(i) : undefined));
		return sample;
	});
}

/** The largest difference, absolute below 1 and relative above: float32 itself is relative. */
function distance(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
	expect(actual.length).toBe(expected.length);
	return Math.max(...Array.from(actual, (x, i) => Math.abs(x - expected[i]!) / Math.max(1, Math.abs(expected[i]!))));
}

describe('trajectories of diffusers', () => {
	const cases = readJson('cases.json') as Record<string, { scheduler: string; config: SchedulerConfig; steps: number }>;
	const tensors = readFloats(new URL('trajectories.safetensors', fixtures));

	it.each(Object.entries(cases))('%s', (name, { scheduler, config, steps }) => {
		const get = (key: string) => tensors.get(`${name}.${key}`)!.data;
		const sampler = createSampler({ _class_name: scheduler, ...config }, { steps });
		expect(distance(sampler.timesteps, get('timesteps'))).toBeLessThan(1e-6);
		if (tensors.has(`${name}.sigmas`)) expect(distance(sampler.sigmas!, get('sigmas'))).toBeLessThan(1e-5);
		const size = get('start').length;
		const samples = trajectory(sampler, get('start'), (i) => get('noise').subarray(i * size, (i + 1) * size));
		expect(samples.length).toBe(steps);
		samples.forEach((sample, i) => {
			expect(distance(sample, get(`step${i}`)), `step ${i}`).toBeLessThan(1e-4);
		});
		if (!tensors.has(`${name}.add_noise`)) return;
		const noised = sampler.addNoise(get('add_noise.x0'), get('add_noise.noise'), [...get('add_noise.t')]);
		expect(distance(noised, get('add_noise'))).toBeLessThan(1e-5);
	});
});

interface OptionCase {
	name: string;
	config: SchedulerConfig;
	steps: number;
	run: Omit<RunOptions, 'steps' | 'batch'>;
	timesteps: number[];
	sigmas?: number[];
	initNoiseSigma?: number;
	samples: number[][];
	noisedAt: number;
	noised: number[];
}

describe('every option, against diffusers', () => {
	const { shape, start, noise, x0, cases } = readJson('options.json') as {
		shape: number[];
		start: number[];
		noise: number[][];
		x0: number[];
		cases: OptionCase[];
	};

	it.each(cases.map((c) => [`${String(c.config._class_name)}: ${c.name}`, c] as const))('%s', (_, expected) => {
		const sampler = createSampler(expected.config, { steps: expected.steps, batch: shape[0]!, ...expected.run });
		// Where timesteps follow from sigmas, diffusers cuts fractions off numbers with rounding errors, so that 999 may become 998.
		const { use_exponential_sigmas, use_beta_sigmas, use_karras_sigmas, shift_terminal } = expected.config;
		const cut = use_exponential_sigmas || use_beta_sigmas || use_karras_sigmas || shift_terminal ? 1 : 0;
		expect(sampler.timesteps.length).toBe(expected.timesteps.length);
		sampler.timesteps.forEach((t, i) => {
			expect(Math.abs(t - expected.timesteps[i]!)).toBeLessThanOrEqual(cut + 1e-3);
		});
		if (expected.sigmas !== undefined) expect(distance(sampler.sigmas!, expected.sigmas)).toBeLessThan(1e-4);
		expect(distance([sampler.initNoiseSigma], [expected.initNoiseSigma ?? 1])).toBeLessThan(1e-6);

		const scale = expected.config._class_name === 'EulerDiscreteScheduler' ? sampler.initNoiseSigma : 1;
		const first = Float32Array.from(start, (x) => x * scale);
		const samples = trajectory(sampler, first, (i) => Float32Array.from(noise[i]!), expected);
		samples.forEach((sample, i) => {
			expect(distance(sample, expected.samples[i]!), `step ${i}`).toBeLessThan(5e-5);
		});

		const noised = sampler.addNoise(Float32Array.from(x0), Float32Array.from(noise[0]!), sampler.timesteps[expected.noisedAt]!);
		expect(distance(noised, expected.noised)).toBeLessThan(1e-4);
	});
});
