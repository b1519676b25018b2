import { describe, expect, it } from 'vitest';
import {
	createSampler,
	dynamicShift,
	parseSchedulerConfig,
	type SchedulerConfig,
	samplerClasses,
	samplerConfig,
	trainingProcess,
} from '../../../src/diffusion/samplers/index.ts';

const names = [...samplerClasses.keys()];
const steps = 5;

describe('scheduler_config.json', () => {
	it.each(names)('%s is written with every option and read back to itself', (name) => {
		const written = samplerConfig(name, { num_train_timesteps: 500 });
		expect(written).toMatchObject({ _class_name: name, num_train_timesteps: 500 });
		const json = parseSchedulerConfig(JSON.stringify(written), 'test');
		expect(createSampler(json, { steps }).config).toEqual(written);
		expect(createSampler({ _class_name: name, num_train_timesteps: 500 }, { steps }).timesteps).toEqual(
			createSampler(json, { steps }).timesteps,
		);
	});

	it('has the defaults of diffusers', () => {
		const common = {
			num_train_timesteps: 1000,
			beta_start: 0.0001,
			beta_end: 0.02,
			beta_schedule: 'linear',
			rescale_betas_zero_snr: false,
		};
		const limits = { thresholding: false, dynamic_thresholding_ratio: 0.995, sample_max_value: 1 };
		expect(samplerConfig('DDIMScheduler')).toEqual({
			_class_name: 'DDIMScheduler',
			...common,
			...limits,
			clip_sample: true,
			clip_sample_range: 1,
			prediction_type: 'epsilon',
			set_alpha_to_one: true,
			steps_offset: 0,
			timestep_spacing: 'leading',
		});
		expect(samplerConfig('DPMSolverMultistepScheduler')).toMatchObject({
			...common,
			...limits,
			algorithm_type: 'dpmsolver++',
			euler_at_final: false,
			final_sigmas_type: 'zero',
			lower_order_final: true,
			solver_order: 2,
			solver_type: 'midpoint',
			timestep_spacing: 'linspace',
		});
		expect(samplerConfig('FlowMatchEulerDiscreteScheduler')).toMatchObject({
			shift: 1,
			base_shift: 0.5,
			max_shift: 1.15,
			base_image_seq_len: 256,
			max_image_seq_len: 4096,
		});
	});

	it('skips where a file comes from and what other schedulers left in it', () => {
		// The scheduler of Stable Diffusion XL, which carries options of the ones before it.
		const config = {
			_class_name: 'EulerDiscreteScheduler',
			_diffusers_version: '0.19.0.dev0',
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
			timestep_spacing: 'leading',
			trained_betas: null,
			use_karras_sigmas: false,
		};
		expect(createSampler(config, { steps }).config).not.toHaveProperty('skip_prk_steps');
		expect(createSampler({ ...config, _class_name: 'PNDMScheduler' }, { steps }, 'DDIMScheduler').timesteps).toEqual([
			801, 601, 401, 201, 1,
		]);
	});

	it('reads what Python writes for minus infinity', () => {
		const config = parseSchedulerConfig('{"_class_name": "DPMSolverMultistepScheduler", "lambda_min_clipped": -Infinity}', 'test');
		expect(createSampler(config, { steps }).config).not.toHaveProperty('lambda_min_clipped');
		expect(() => parseSchedulerConfig('{', 'model/scheduler')).toThrow(/model\/scheduler: not valid JSON/);
		expect(() => parseSchedulerConfig('[]', 'model/scheduler')).toThrow(/an object of scheduler options/);
	});

	it('says how its model is trained', () => {
		const sd = { beta_schedule: 'scaled_linear', beta_start: 0.00085, beta_end: 0.012, prediction_type: 'v_prediction' };
		const vp = trainingProcess({ _class_name: 'DDIMScheduler', ...sd });
		expect(vp.predictionType).toBe('v_prediction');
		expect(vp.process.level(500).alpha ** 2).toBeCloseTo(0.2763325, 5);
		const flow = trainingProcess({ _class_name: 'FlowMatchEulerDiscreteScheduler', shift: 3 });
		expect(flow.predictionType).toBe('flow_prediction');
		expect(flow.process.level(250)).toEqual({ alpha: 0.75, sigma: 0.25 });
	});
});

describe('errors name the option', () => {
	const make = (config: SchedulerConfig, run: object = {}) => createSampler(config, { steps, ...run });
	const dpm = { _class_name: 'DPMSolverMultistepScheduler' };
	const flow = { _class_name: 'FlowMatchEulerDiscreteScheduler' };
	const unipc = { _class_name: 'UniPCMultistepScheduler' };
	it.each<[string, SchedulerConfig, object, RegExp]>([
		[
			'unknown class',
			{ _class_name: 'EulerDiscretScheduler' },
			{},
			/_class_name: unknown sampler[\s\S]*did you mean EulerDiscreteScheduler/,
		],
		['no class', {}, {}, /unknown sampler[\s\S]*found: none/],
		[
			'unknown option',
			{ _class_name: 'DDIMScheduler', clip_sampl: true },
			{},
			/DDIMScheduler clip_sampl: unknown.*[\s\S]*did you mean clip_sample/,
		],
		[
			'bad choice',
			{ _class_name: 'DDPMScheduler', variance_type: 'learned_range' },
			{},
			/DDPMScheduler variance_type: bad value[\s\S]*fixed_small/,
		],
		['sigmoid outside DDPM', { _class_name: 'DDIMScheduler', beta_schedule: 'sigmoid' }, {}, /beta_schedule: bad value/],
		['bad flag', { _class_name: 'DDIMScheduler', clip_sample: 'yes' }, {}, /clip_sample: bad value[\s\S]*true or false[\s\S]*"yes"/],
		['bad count', { _class_name: 'DDIMScheduler', num_train_timesteps: 0.5 }, {}, /num_train_timesteps: bad value/],
		['bad betas', { _class_name: 'DDIMScheduler', trained_betas: ['a'] }, {}, /trained_betas: bad value[\s\S]*list of numbers/],
		['learned variance', { ...dpm, variance_type: 'learned' }, {}, /variance_type: bad value[\s\S]*not supported/],
		['another predictor', { ...unipc, solver_p: {} }, {}, /solver_p: bad value/],
		['two spacings', { ...dpm, use_karras_sigmas: true, use_beta_sigmas: true }, {}, /spaced in two ways/],
		['lu and karras', { ...dpm, use_karras_sigmas: true, use_lu_lambdas: true }, {}, /spaced in two ways/],
		['noise solver to zero', { ...dpm, algorithm_type: 'dpmsolver' }, {}, /cannot end at sigma 0[\s\S]*sigma_min/],
		['order 4', { ...dpm, solver_order: 4 }, {}, /solver_order 1, 2 or 3/],
		['order 3 SDE', { ...dpm, algorithm_type: 'sde-dpmsolver', solver_order: 3, final_sigmas_type: 'sigma_min' }, {}, /no such solver/],
		['flow prediction without flow', { ...unipc, prediction_type: 'flow_prediction' }, {}, /needs flow sigmas/],
		[
			'noise solver of a flow',
			{ ...unipc, prediction_type: 'flow_prediction', use_flow_sigmas: true, predict_x0: false },
			{},
			/solver for x0/,
		],
		['dynamic shift without flow', { ...dpm, use_dynamic_shifting: true }, { mu: 1 }, /dynamic shifting needs flow/],
		['beta spacing of a flow', { ...unipc, use_flow_sigmas: true, use_beta_sigmas: true }, {}, /cannot be spaced/],
		['high order to zero', { ...unipc, lower_order_final: false }, {}, /high order cannot end at sigma 0/],
		['terminal without flow', { ...unipc, shift_terminal: 0.1 }, {}, /shift_terminal needs flow/],
		['sigmas without flow', unipc, { sigmas: [1, 0.8, 0.6, 0.4, 0.2] }, /sigmas do not apply/],
		['missing mu', { ...flow, use_dynamic_shifting: true }, {}, /mu is missing[\s\S]*dynamicShift/],
		['needless mu', flow, { mu: 1 }, /mu does not apply/],
		['wrong sigmas', flow, { sigmas: [1, 0.5] }, /bad sigmas[\s\S]*5 descending/],
		['rising sigmas', flow, { sigmas: [1, 0.5, 0.6, 0.2, 0.1] }, /bad sigmas/],
		['eta for Euler', { _class_name: 'EulerDiscreteScheduler' }, { eta: 0.5 }, /EulerDiscreteScheduler eta: option does not apply/],
		['no steps', { _class_name: 'DDIMScheduler' }, { steps: 0 }, /bad number of steps/],
		['too many steps', { _class_name: 'DDIMScheduler' }, { steps: 1001 }, /no leading timesteps for 1001 steps[\s\S]*fewer steps/],
		['too many multistep steps', dpm, { steps: 1000 }, /no linspace timesteps/],
		['offset beyond the end', { _class_name: 'DDPMScheduler', steps_offset: 1 }, { steps: 1000 }, /smaller steps_offset/],
		['thresholding without batch', { _class_name: 'DDPMScheduler', thresholding: true }, {}, /give `batch`/],
		['one step to a terminal', { ...flow, shift_terminal: 0.1 }, { steps: 1 }, /no usable schedule/],
		[
			'epsilon from pure noise',
			{ _class_name: 'DDIMScheduler', rescale_betas_zero_snr: true, timestep_spacing: 'trailing' },
			{},
			/cannot start from a timestep without signal[\s\S]*v_prediction/,
		],
	])('%s', (_, config, run, message) => {
		expect(() => make(config, run)).toThrow(message);
	});
});

it('dynamicShift is linear between the ends that Flux uses', () => {
	expect(dynamicShift(256)).toBeCloseTo(0.5, 12);
	expect(dynamicShift(4096)).toBeCloseTo(1.15, 12);
	expect(dynamicShift(1024, { base_image_seq_len: 0, max_image_seq_len: 2048, base_shift: 0, max_shift: 2 })).toBeCloseTo(1, 12);
});
