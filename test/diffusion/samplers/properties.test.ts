import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { randomStream } from '../../../src/core/random.ts';
import { type NoiseLevel, type PredictionType, targetMix } from '../../../src/diffusion/prediction.ts';
import { symmetricBetaQuantile } from '../../../src/diffusion/samplers/beta-quantile.ts';
import {
	createSampler,
	initialState,
	type RunOptions,
	type Sampler,
	type SamplerState,
	type SchedulerConfig,
	samplerClasses,
	trainingProcess,
} from '../../../src/diffusion/samplers/index.ts';

const stable = { beta_schedule: 'scaled_linear', beta_start: 0.00085, beta_end: 0.012, clip_sample: false } as const;
const stream = randomStream(1, 'samplers');
const normals = (size: number, step: number) => stream.normals(new Float32Array(size), step);
const names = [...samplerClasses.keys()];

/** The noise level of the model's input at step `i`. */
function levelOf(sampler: Sampler, i: number): NoiseLevel {
	const sigma = sampler.sigmas?.[i];
	if (sigma === undefined) return trainingProcess(sampler.config).process.level(sampler.timesteps[i]!);
	if (sampler.predictionType === 'flow_prediction') return { alpha: 1 - sigma, sigma };
	return { alpha: 1 / Math.sqrt(1 + sigma ** 2), sigma: sigma / Math.sqrt(1 + sigma ** 2) };
}

/** Runs a sampler from its start noise with a model that knows what x0 is, given its input and the noise level. */
function run(sampler: Sampler, start: Float32Array, original: (input: Float32Array, level: NoiseLevel) => Float32Array): Float32Array {
	let sample: Float32Array = start.map((x) => x * sampler.initNoiseSigma);
	let state: SamplerState = initialState;
	for (let i = 0; i < sampler.timesteps.length; i++) {
		const input = sampler.scaleModelInput(sample, i);
		const level = levelOf(sampler, i);
		const target = targetMix(sampler.predictionType, level);
		const x0 = original(input, level);
		const output = input.map((x, j) => target.x0 * x0[j]! + (target.noise * (x - level.alpha * x0[j]!)) / level.sigma);
		const noise = sampler.needsNoise(i) ? normals(start.length, 100 + i) : undefined;
		({ sample, state } = sampler.step(output, i, sample, state, noise));
	}
	return sample;
}

/** PNDM knows no x0: it reaches the clean image along the one noise it is given, in whole strides and from noise that is combined as such. */
function exactPndm(
	steps: number,
	{ prediction_type, use_karras_sigmas }: { prediction_type: PredictionType; use_karras_sigmas: boolean },
): SchedulerConfig {
	return {
		set_alpha_to_one: true,
		timestep_spacing: 'leading',
		prediction_type: prediction_type === 'v_prediction' ? 'epsilon' : prediction_type,
		// The middle of an odd stride is none of the timesteps that a Runge-Kutta step passes.
		skip_prk_steps: use_karras_sigmas || Math.floor(1000 / steps) % 2 === 1,
	};
}

const predictions: PredictionType[] = ['epsilon', 'sample', 'v_prediction'];
const anySampler = fc
	.record({
		name: fc.constantFrom(...names),
		steps: fc.integer({ min: 1, max: 40 }),
		prediction_type: fc.constantFrom(...predictions),
		timestep_spacing: fc.constantFrom('linspace', 'leading', 'trailing'),
		solver_order: fc.integer({ min: 1, max: 3 }),
		use_karras_sigmas: fc.boolean(),
		algorithm_type: fc.constantFrom('dpmsolver++', 'sde-dpmsolver++'),
		eta: fc.constantFrom(0, 0.5, 1),
	})
	.map(({ name, steps: any, eta, ...options }) => {
		// DDIM goes back by whole strides, and reaches the clean image only where those end at 0.
		const steps = name === 'DDIMScheduler' && options.timestep_spacing === 'trailing' && 1000 % any !== 0 ? 8 : any;
		const config: SchedulerConfig = {
			_class_name: name,
			...stable,
			...options,
			...(name === 'PNDMScheduler' ? exactPndm(steps, options) : {}),
		};
		const run: RunOptions = name === 'DDIMScheduler' ? { steps, eta } : { steps };
		return { config, run };
	});

describe('any sampler', () => {
	it('recovers x0 with a model that knows it', () => {
		const x0 = normals(6, 1);
		fc.assert(
			fc.property(anySampler, ({ config, run: options }) => {
				const sampler = createSampler(config, options);
				const found = run(sampler, normals(6, 2), () => x0);
				for (const [i, x] of found.entries()) expect(Math.abs(x - x0[i]!)).toBeLessThan(1e-3);
			}),
			{ numRuns: 300 },
		);
	});

	it('visits descending timesteps and sigmas', () => {
		fc.assert(
			fc.property(anySampler, ({ config, run }) => {
				const sampler = createSampler(config, run);
				const { sigmas = [], stepStarts } = sampler;
				const timesteps = stepStarts?.map((i) => sampler.timesteps[i]!) ?? sampler.timesteps;
				expect(timesteps.length).toBe(run.steps);
				expect(sampler.timesteps.every((t, i) => i === 0 || t <= sampler.timesteps[i - 1]!)).toBe(true);
				// Rounding may give neighbouring Karras levels the same timestep.
				const same = config.use_karras_sigmas === true && sigmas.length > 0;
				expect(timesteps.every((t, i) => i === 0 || t < timesteps[i - 1]! || (same && t === timesteps[i - 1]))).toBe(true);
				expect(sigmas.every((s, i) => i === 0 || s < sigmas[i - 1]!)).toBe(true);
			}),
		);
	});

	it('gives the same image when it is stepped in parts, and when its state is saved and loaded on the way', () => {
		fc.assert(
			fc.property(anySampler, fc.integer({ min: 1, max: 7 }), ({ config, run }, cut) => {
				const sampler = createSampler(config, run);
				const steps = (start: Float32Array, from: number, to: number, reload: boolean) => {
					let sample = start;
					let state: SamplerState = initialState;
					for (let i = 0; i < sampler.timesteps.length; i++) {
						const output = sampler.scaleModelInput(sample, i).map((x) => Math.sin(2 * x));
						const noise = sampler.needsNoise(i) ? normals(8, i).subarray(from, to) : undefined;
						({ sample, state } = sampler.step(output, i, sample, state, noise));
						if (reload) {
							const floats = (x: unknown) => Float32Array.from(x as number[]);
							const saved = JSON.parse(JSON.stringify(state, (_, value) => (value instanceof Float32Array ? [...value] : value)));
							const lastSample = saved.lastSample === null ? null : floats(saved.lastSample);
							state = { order: saved.order, history: saved.history.map(floats), lastSample };
						}
					}
					return sample;
				};
				const start = normals(8, 3).map((x) => x * sampler.initNoiseSigma);
				const whole = steps(start, 0, 8, false);
				expect([...steps(start.slice(0, cut), 0, cut, true), ...steps(start.slice(cut), cut, 8, true)]).toEqual([...whole]);
			}),
		);
	});

	it('changes none of the arrays it is given', () => {
		fc.assert(
			fc.property(anySampler, ({ config, run }) => {
				const sampler = createSampler({ ...config, clip_sample: true }, run);
				const arrays = [normals(6, 1), normals(6, 2), normals(6, 3)] as const;
				const before = arrays.map((a) => [...a]);
				sampler.step(arrays[0], 0, arrays[1], initialState, arrays[2]);
				sampler.predictOriginal(arrays[0], 0, arrays[1]);
				sampler.addNoise(arrays[0], arrays[2], sampler.timesteps[0]!);
				expect(arrays.map((a) => [...a])).toEqual(before);
			}),
		);
	});
});

it('DDIM with eta 0 needs no noise and repeats itself; eta above 0 depends on the noise', () => {
	const step = (eta: number, seed: number) => {
		const sampler = createSampler({ _class_name: 'DDIMScheduler', ...stable }, { steps: 10, eta });
		return [...sampler.step(normals(4, 1), 3, normals(4, 2), initialState, normals(4, seed)).sample];
	};
	expect(createSampler({ _class_name: 'DDIMScheduler' }, { steps: 10 }).needsNoise(3)).toBe(false);
	expect(step(0, 5)).toEqual(step(0, 6));
	expect(step(0.5, 5)).not.toEqual(step(0.5, 6));
});

describe('order of accuracy', () => {
	// Normal data of deviation c: the best model is E[x0 | x] = alpha c^2 x / (alpha^2 c^2 + sigma^2), and the ODE keeps a sample's
	// place in the distribution, so the exact end is the start's place times the deviation at the end.
	const c = 0.5;
	const best = (input: Float32Array, { alpha, sigma }: NoiseLevel) =>
		input.map((x) => (alpha * c * c * x) / (alpha ** 2 * c ** 2 + sigma ** 2));
	const error = (config: SchedulerConfig, steps: number) => {
		const sampler = createSampler({ ...stable, ...config }, { steps });
		const start = Float32Array.of(1);
		const { alpha, sigma } = levelOf(sampler, 0);
		const input = sampler.scaleModelInput(
			start.map((x) => x * sampler.initNoiseSigma),
			0,
		)[0]!;
		const end = sampler.sigmas?.at(-1) || 0;
		const exact = (input * Math.sqrt((c ** 2 + end ** 2) / (1 + end ** 2))) / Math.sqrt(alpha ** 2 * c ** 2 + sigma ** 2);
		return Math.abs(run(sampler, start, best)[0]! / exact - 1);
	};

	const flow = { _class_name: 'FlowMatchEulerDiscreteScheduler' };
	const dpm = { _class_name: 'DPMSolverMultistepScheduler' };
	const unipc = { _class_name: 'UniPCMultistepScheduler' };
	// A multistep solver starts with steps of order 1 and 2, which bounds the third; UniPC's corrector adds one to its own.
	it.each<[string, SchedulerConfig, number]>([
		['DDIM', { _class_name: 'DDIMScheduler', timestep_spacing: 'trailing' }, 1],
		['Euler', { _class_name: 'EulerDiscreteScheduler' }, 1],
		['flow Euler', flow, 1],
		['DPM-Solver++ 1', { ...dpm, solver_order: 1, use_lu_lambdas: true }, 1],
		['DPM-Solver++ 2M', { ...dpm, use_lu_lambdas: true, final_sigmas_type: 'sigma_min' }, 2],
		['DPM-Solver++ 3M', { ...dpm, use_lu_lambdas: true, solver_order: 3, final_sigmas_type: 'sigma_min' }, 2],
		['UniPC 2', { ...unipc, use_exponential_sigmas: true, final_sigmas_type: 'sigma_min' }, 3],
	])('%s', (_, config, order) => {
		const coarse = error(config, 20);
		const fine = error(config, 40);
		expect(fine).toBeLessThan(coarse / 2 ** (order - 0.4));
	});
});

it('rejects arrays and steps that do not fit', () => {
	const sampler = createSampler({ _class_name: 'DDPMScheduler' }, { steps: 4 });
	const four = normals(4, 0);
	expect(() => sampler.step(four, 4, four, initialState, four)).toThrow(/DDPMScheduler: bad step index[\s\S]*0 to 3/);
	expect(() => sampler.step(normals(3, 0), 0, four, initialState, four)).toThrow(/bad model output[\s\S]*4 elements/);
	expect(() => sampler.step(four, 0, four, initialState)).toThrow(/bad noise[\s\S]*none/);
	expect(() => sampler.step(four, 0, four, { ...initialState, history: [four] }, four)).toThrow(/state of a later step/);
	expect(() => sampler.step(four, 0, four, { ...initialState, lastSample: normals(2, 0) }, four)).toThrow(/bad state/);
	expect(() => sampler.addNoise(four, four, [0, 1, 2])).toThrow(/bad timesteps/);
	expect(() => sampler.addNoise(four, four, 1000)).toThrow(/bad timestep/);
	expect(() => sampler.scaleModelInput(four, -1)).toThrow(/bad step index/);
	const euler = createSampler({ _class_name: 'EulerDiscreteScheduler' }, { steps: 3 });
	expect(() => euler.addNoise(four, four, 3)).toThrow(/one of 999, 499.5, 0/);
});

it('beta quantiles are those of SciPy', () => {
	const expected = [
		[1e-6, 1.8558824624053043e-10],
		[0.01, 0.0008612388215429059],
		[0.2, 0.12292175045833292],
		[0.5, 0.5],
		[0.75, 0.824319621347305],
		[0.999, 0.9999814412614826],
	] as const;
	for (const [p, x] of expected) expect(symmetricBetaQuantile(p, 0.6) / x).toBeCloseTo(1, 11);
	expect([symmetricBetaQuantile(0, 0.6), symmetricBetaQuantile(1, 0.6)]).toEqual([0, 1]);
});
