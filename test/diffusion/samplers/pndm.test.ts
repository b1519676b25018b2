/** @file PNDM against diffusers' published timesteps and results, the paper's formulas written out, and its order of accuracy. */
import { describe, expect, it } from 'vitest';
import {
	createSampler,
	initialState,
	type Sampler,
	type SamplerState,
	type SchedulerConfig,
	trainingProcess,
} from '../../../src/diffusion/samplers/index.ts';

/** The scheduler_config.json of Stable Diffusion 1.5. */
const sd15: SchedulerConfig = {
	_class_name: 'PNDMScheduler',
	_diffusers_version: '0.6.0',
	beta_end: 0.012,
	beta_schedule: 'scaled_linear',
	beta_start: 0.00085,
	num_train_timesteps: 1000,
	set_alpha_to_one: false,
	skip_prk_steps: true,
	steps_offset: 1,
	trained_betas: null,
	clip_sample: false,
};

/** Runs a sampler from its evaluation `first` on with a model of (sample, timestep). */
function run(sampler: Sampler, start: Float32Array, model: (x: Float32Array, t: number) => Float32Array, first = 0): Float32Array {
	let sample = start;
	let state: SamplerState = initialState;
	for (let i = first; i < sampler.timesteps.length; i++)
		({ sample, state } = sampler.step(model(sample, sampler.timesteps[i]!), i, sample, state));
	return sample;
}

describe('timesteps', () => {
	it('of 50 steps are the 51 that Stable Diffusion 1 is known for', () => {
		const { timesteps, stepStarts, initNoiseSigma } = createSampler(sd15, { steps: 50 });
		expect(timesteps).toHaveLength(51);
		expect(timesteps.slice(0, 5)).toEqual([981, 961, 961, 941, 921]);
		expect(timesteps.slice(-2)).toEqual([21, 1]);
		expect(stepStarts).toEqual([0, ...Array.from({ length: 49 }, (_, i) => i + 2)]);
		expect(initNoiseSigma).toBe(1);
		// As printed in huggingface/diffusers#9090.
		expect(createSampler(sd15, { steps: 20 }).timesteps).toEqual([
			951, 901, 901, 851, 801, 751, 701, 651, 601, 551, 501, 451, 401, 351, 301, 251, 201, 151, 101, 51, 1,
		]);
	});

	it('are spaced as the config says', () => {
		const spaced = (timestep_spacing: string, steps: number) => createSampler({ ...sd15, timestep_spacing }, { steps }).timesteps;
		expect(spaced('trailing', 4)).toEqual([999, 749, 749, 499, 249]);
		expect(spaced('linspace', 4)).toEqual([999, 666, 666, 333, 0]);
		expect(spaced('leading', 1)).toEqual([1]);
	});

	it('with Runge-Kutta steps are those of diffusers', () => {
		// From diffusers' test_steps_offset of PNDMScheduler.
		const { timesteps, stepStarts } = createSampler({ _class_name: 'PNDMScheduler', steps_offset: 1 }, { steps: 10 });
		expect(timesteps).toEqual([901, 851, 851, 801, 801, 751, 751, 701, 701, 651, 651, 601, 601, 501, 401, 301, 201, 101, 1]);
		expect(stepStarts).toEqual([0, 4, 8, 12, 13, 14, 15, 16, 17, 18]);
	});

	it('of few steps end at the lowest timestep all the same', () => {
		const few = (steps: number) => createSampler({ _class_name: 'PNDMScheduler' }, { steps }).timesteps;
		expect(few(1)).toEqual([0]);
		expect(few(2)).toEqual([500, 250, 250, 0, 0]);
		expect(few(3)).toEqual([666, 499, 499, 333, 333, 166, 166, 0, 0]);
	});
});

// The sums of |sample| that diffusers' own tests of PNDMScheduler expect after 10 steps from 0/768, 1/768, ... with the model x t / (t + 1):
// three Runge-Kutta steps, then the multistep method.
it.each<[string, SchedulerConfig, number]>([
	['noise', {}, 198.1318],
	['v_prediction', { prediction_type: 'v_prediction' }, 67.3986],
	['set_alpha_to_one', { set_alpha_to_one: true, beta_start: 0.01 }, 230.0399],
	['no set_alpha_to_one', { set_alpha_to_one: false, beta_start: 0.01 }, 186.9482],
])("the results of diffusers' tests: %s", (_, options, sum) => {
	const sampler = createSampler({ _class_name: 'PNDMScheduler', ...options }, { steps: 10 });
	const start = Float32Array.from({ length: 768 }, (_, i) => i / 768);
	const end = run(sampler, start, (x, t) => x.map((v) => (v * t) / (t + 1)));
	expect(Math.abs(end.reduce((total, x) => total + Math.abs(x), 0) - sum)).toBeLessThan(1e-2);
});

describe('the formulas of the paper', () => {
	const bars = [0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1];
	const config: SchedulerConfig = {
		_class_name: 'PNDMScheduler',
		num_train_timesteps: 10,
		trained_betas: bars.map((bar, t) => 1 - bar / (bars[t - 1] ?? 1)),
		skip_prk_steps: true,
		steps_offset: 1,
	};
	/** The transfer part: a step from a to p along the noise e. */
	const phi = (x: number, e: number, a: number, p: number) =>
		Math.sqrt(p / a) * x - ((p - a) * e) / (a * Math.sqrt(1 - p) + Math.sqrt(a * (1 - a) * p));
	const outputs = [0.7, -0.4, 0.3, 1.1, -0.9, 0.2];
	const follow = (options: SchedulerConfig) => {
		const sampler = createSampler({ ...config, ...options }, { steps: 5 });
		expect(sampler.timesteps).toEqual([9, 7, 7, 5, 3, 1]);
		let state: SamplerState = initialState;
		let sample = Float32Array.of(1.5);
		return sampler.timesteps.map((_, i) => {
			({ sample, state } = sampler.step(Float32Array.of(outputs[i]!), i, sample, state) as {
				sample: Float32Array<ArrayBuffer>;
				state: SamplerState;
			});
			return sample[0]!;
		});
	};
	const [e0, e1, e2, e3, e4, e5] = outputs as [number, number, number, number, number, number];

	it.each([
		[false, 0.95],
		[true, 1],
	])('give every step, with set_alpha_to_one %s', (set_alpha_to_one, last) => {
		const x0 = phi(1.5, e0, 0.1, 0.3);
		// The first step once more, from where it began.
		const x1 = phi(1.5, (e0 + e1) / 2, 0.1, 0.3);
		const x2 = phi(x1, (3 * e2 - e0) / 2, 0.3, 0.5);
		const x3 = phi(x2, (23 * e3 - 16 * e2 + 5 * e0) / 12, 0.5, 0.7);
		const x4 = phi(x3, (55 * e4 - 59 * e3 + 37 * e2 - 9 * e0) / 24, 0.7, 0.9);
		const x5 = phi(x4, (55 * e5 - 59 * e4 + 37 * e3 - 9 * e2) / 24, 0.9, last);
		follow({ set_alpha_to_one }).forEach((x, i) => {
			expect(x).toBeCloseTo([x0, x1, x2, x3, x4, x5][i]!, 5);
		});
	});

	it('take v as the noise it implies at the start of the step', () => {
		const noise = (v: number, x: number, a: number) => Math.sqrt(a) * v + Math.sqrt(1 - a) * x;
		const x1 = phi(1.5, noise((e0 + e1) / 2, 1.5, 0.1), 0.1, 0.3);
		const x2 = phi(x1, noise((3 * e2 - e0) / 2, x1, 0.3), 0.3, 0.5);
		const found = follow({ prediction_type: 'v_prediction' });
		expect(found[1]).toBeCloseTo(x1, 5);
		expect(found[2]).toBeCloseTo(x2, 5);
	});
});

describe('accuracy', () => {
	// Normal data of deviation c, with the best model's noise: the path keeps a sample's place in the distribution.
	const c = 0.5;
	const error = (config: SchedulerConfig, steps: number) => {
		const sampler = createSampler(config, { steps });
		const { level } = trainingProcess(config).process;
		const deviation = (t: number) => Math.hypot(level(t).alpha * c, level(t).sigma);
		const model = (x: Float32Array, t: number) => x.map((v) => (v * level(t).sigma) / deviation(t) ** 2);
		const [end] = run(sampler, Float32Array.of(deviation(sampler.timesteps[0]!)), model);
		return Math.abs(end! / deviation(0) - 1);
	};
	// sigma / alpha even from 0.2 to 3.2, where the multistep weights are those of the equation itself.
	const bars = Array.from({ length: 960 }, (_, t) => 1 / (1 + (0.2 + t / 320) ** 2));
	const even = { num_train_timesteps: 960, trained_betas: bars.map((bar, t) => 1 - bar / (bars[t - 1] ?? 1)), clip_sample: false };

	it.each<[string, SchedulerConfig, number]>([
		['DDIM', { _class_name: 'DDIMScheduler', set_alpha_to_one: false, ...even }, 1],
		// The first step, of order 2, is one of many.
		['multistep', { _class_name: 'PNDMScheduler', skip_prk_steps: true, ...even }, 3],
		['Runge-Kutta, then multistep', { _class_name: 'PNDMScheduler', ...even }, 4],
	])('%s', (_, config, order) => {
		expect(error(config, 24)).toBeLessThan(error(config, 12) / 2 ** (order - 0.4));
	});

	it("reaches DDIM's limit sooner than DDIM on the schedule of Stable Diffusion", () => {
		const { steps_offset: _, ...config } = sd15;
		for (const steps of [20, 50, 200])
			expect(error(config, steps)).toBeLessThan(error({ ...config, _class_name: 'DDIMScheduler' }, steps) / 4);
		expect(error(config, 200)).toBeLessThan(2e-3);
	});
});

describe('an image taken up on the way', () => {
	it.each([true, false])('is finished from the beginning of any step, skip_prk_steps %s', (skip_prk_steps) => {
		const sampler = createSampler({ ...sd15, steps_offset: 0, skip_prk_steps, set_alpha_to_one: true }, { steps: 10 });
		const { level } = trainingProcess(sampler.config).process;
		const x0 = 0.3;
		for (const first of sampler.stepStarts!) {
			const start = sampler.addNoise(Float32Array.of(x0), Float32Array.of(-1.2), sampler.timesteps[first]!);
			const model = (x: Float32Array, t: number) => x.map((v) => (v - level(t).alpha * x0) / level(t).sigma);
			expect(run(sampler, start, model, first)[0]).toBeCloseTo(x0, 4);
		}
	});

	it('needs the beginning of the step', () => {
		const x = Float32Array.of(1);
		const at = (config: SchedulerConfig, i: number) => () => createSampler(config, { steps: 10 }).step(x, i, x, initialState);
		expect(at(sd15, 1)).toThrow(/PNDMScheduler step 1: the step has no beginning[\s\S]*stepStarts/);
		expect(at({ ...sd15, skip_prk_steps: false }, 7)).toThrow(/step 7: the step has no beginning/);
	});
});

it('previews x0 at the timestep of the evaluation', () => {
	const sampler = createSampler(sd15, { steps: 10 });
	const noise = Float32Array.of(0.7, -1);
	for (const i of [0, 1, 2, 10]) {
		const x = sampler.addNoise(Float32Array.of(0.3, 0.6), noise, sampler.timesteps[i]!);
		sampler.predictOriginal(noise, i, x).forEach((v, k) => {
			expect(v).toBeCloseTo([0.3, 0.6][k]!, 4);
		});
	}
});
