/**
 * @file DPMSolverMultistepScheduler: multistep solvers of orders 1 to 3 for the diffusion ODE and SDE (Lu et al., DPM-Solver, arXiv 2206.00927;
 * DPM-Solver++, arXiv 2211.01095).
 */
import { DiffusionPipeError } from '../../core/errors.ts';
import { type NoiseLevel, originalMix } from '../prediction.ts';
import { linspace } from '../schedule.ts';
import { shiftSigma } from '../timesteps.ts';
import { mix, mixOutput, originalLimiter, type Term } from './combine.ts';
import { checkMultistep, impliedNoise, lambdaOf, levelOfSigma, multistepOptions, multistepProcess, wholeTimesteps } from './multistep.ts';
import { choice, flag, integer, nullable, number, type OptionValues, unsupported } from './options.ts';
import { type RunOptions, samplerClass } from './sampler.ts';
import { requireMu, sigmaAt, sigmaTable, spacedSigmas, timestepOf } from './sigmas.ts';
import { roundHalfEven, spacedTimesteps } from './spacing.ts';

const place = 'DPMSolverMultistepScheduler';

const options = {
	...multistepOptions,
	solver_order: integer(2, 1),
	algorithm_type: choice('dpmsolver++', ['dpmsolver++', 'dpmsolver', 'sde-dpmsolver++', 'sde-dpmsolver'], { deis: 'dpmsolver++' }),
	solver_type: choice('midpoint', ['midpoint', 'heun'], { logrho: 'midpoint', bh1: 'midpoint', bh2: 'midpoint' }),
	euler_at_final: flag(false),
	use_lu_lambdas: flag(false),
	lambda_min_clipped: nullable(number(0)),
	variance_type: unsupported(null, 'a learned variance (drop its channels from the model output)'),
} as const;

type Options = OptionValues<typeof options>;

/** DPMSolverMultistepScheduler. Run options: `mu`. */
export const dpmSolverMultistep = samplerClass({
	className: place,
	options,
	runOptions: ['mu'],
	predictionType: (options) => options.prediction_type,
	process: multistepProcess,
	parts(options, run) {
		const { solver_order: order, algorithm_type: algorithm, prediction_type: type, use_flow_sigmas: flow } = options;
		const forX0 = algorithm === 'dpmsolver++' || algorithm === 'sde-dpmsolver++';
		const stochastic = algorithm === 'sde-dpmsolver++' || algorithm === 'sde-dpmsolver';
		checkSolver(options, forX0);
		const { timesteps, sigmas } = dpmSchedule(options, run);
		const levels = sigmas.map((sigma) => levelOfSigma(flow, sigma));
		const limit = originalLimiter(place, options, run.batch);
		const count = timesteps.length;
		const few = options.lower_order_final && count < 15;

		const predictOriginal = (modelOutput: Float32Array, i: number, sample: Float32Array) =>
			limit(mixOutput(originalMix(type, levels[i]!), sample, modelOutput));

		return {
			timesteps,
			sigmas,
			initNoiseSigma: 1,
			needsNoise: () => stochastic,
			levelAt: (t) => levels[timesteps.indexOf(t)],
			predictOriginal,
			step(modelOutput, i, sample, state, noise) {
				const converted = forX0
					? predictOriginal(modelOutput, i, sample)
					: impliedNoise(type, levels[i]!, modelOutput, sample, options.thresholding ? limit : undefined);
				const last = i === count - 1 && (options.euler_at_final || few || options.final_sigmas_type === 'zero');
				const lastButOne = i === count - 2 && few;
				const known = Math.min(order, state.history.length + 1);
				const used = last ? 1 : lastButOne ? Math.min(known, 2) : known;
				const history = [...state.history, converted].slice(-order);
				const weights = dpmWeights(algorithm, options.solver_type, levels.slice(Math.max(i + 1 - used, 0), i + 2).reverse());
				const terms: Term[] = weights.outputs.map((weight, back) => [weight, history.at(-1 - back)!]);
				if (stochastic) terms.push([weights.noise, noise]);
				return { sample: mix([weights.sample, sample], ...terms), state: { ...state, history } };
			},
		};
	},
});

/** Timesteps and sigmas, the latter with the level after the last step. */
function dpmSchedule(options: Options, run: RunOptions): { timesteps: number[]; sigmas: number[] } {
	const { steps } = run;
	const { num_train_timesteps: trained } = options;
	requireMu(place, options.use_dynamic_shifting, run.mu);
	const table = sigmaTable(options);
	// The table holds sigma = exp(-lambda), ascending.
	const clipped = options.lambda_min_clipped === null ? 0 : table.filter((sigma) => -Math.log(sigma) < options.lambda_min_clipped!).length;
	const end = options.final_sigmas_type === 'zero' ? 0 : table[0]!;
	const withEnd = (sigmas: readonly number[]) => [...sigmas, end].map(Math.fround);

	const exponential = { ...options, use_exponential_sigmas: options.use_exponential_sigmas || options.use_lu_lambdas };
	const spaced = spacedSigmas(place, exponential, table[0]!, table.at(-1)!, steps);
	if (spaced !== undefined) {
		const exact = spaced.map((sigma) => timestepOf(table, sigma));
		const rounds = (options.use_karras_sigmas || options.use_lu_lambdas) && options.beta_schedule !== 'squaredcos_cap_v2';
		return { timesteps: rounds ? exact.map(roundHalfEven) : wholeTimesteps(exact), sigmas: withEnd(spaced) };
	}
	if (options.use_flow_sigmas) {
		const shift = run.mu === undefined ? options.flow_shift : Math.exp(run.mu);
		const sigmas = [...linspace(1, 1 / trained, steps + 1)]
			.map((alpha) => shiftSigma(1 - alpha, shift))
			.reverse()
			.slice(0, -1);
		return { timesteps: wholeTimesteps(sigmas.map((sigma) => sigma * trained)), sigmas: withEnd(sigmas) };
	}
	const timesteps = spacedTimesteps(place, steps, options, { extraPoint: true, last: trained - clipped });
	return { timesteps, sigmas: withEnd(timesteps.map((t) => sigmaAt(table, t))) };
}

function checkSolver(options: Options, forX0: boolean): void {
	checkMultistep(place, options, !forX0);
	const refuse = (what: string, expected: string, found: string) => {
		throw new DiffusionPipeError('config', what, { place, expected, found });
	};
	const { solver_order: order, algorithm_type: algorithm } = options;
	if (order > 3) refuse('no such solver', 'solver_order 1, 2 or 3', String(order));
	if (order === 3 && algorithm === 'sde-dpmsolver') refuse('no such solver', 'solver_order 1 or 2 with sde-dpmsolver', '3');
	if (!forX0 && options.final_sigmas_type === 'zero')
		refuse('a solver for the noise cannot end at sigma 0', 'final_sigmas_type sigma_min', 'zero');
	const spacings = [options.use_lu_lambdas, options.use_karras_sigmas, options.use_exponential_sigmas, options.use_beta_sigmas];
	if (options.use_lu_lambdas && spacings.filter(Boolean).length > 1) refuse('sigmas are spaced in two ways', 'use_lu_lambdas alone', 'two');
	if (options.use_flow_sigmas && spacings.some(Boolean)) refuse('sigmas are spaced in two ways', 'use_flow_sigmas alone', 'two');
}

/**
 * The next sample's weights on the sample, on the converted outputs (latest first) and on fresh noise. `levels` are those after the step,
 * at its start, and of the earlier outputs that the order uses.
 */
function dpmWeights(
	algorithm: Options['algorithm_type'],
	solver: Options['solver_type'],
	levels: readonly NoiseLevel[],
): { sample: number; outputs: number[]; noise: number } {
	const [target, start] = levels as [NoiseLevel, NoiseLevel];
	const lambdas = levels.map(lambdaOf);
	const h = lambdas[0]! - lambdas[1]!;
	// A step of no length, as when final_sigmas_type repeats the last level.
	if (h === 0) return { sample: 1, outputs: [], noise: 0 };
	const order = levels.length - 1;
	const derivative = solver === 'midpoint' && order === 2 ? 'midpoint' : 'exact';
	const { sample, d0, d1, d2, noise } = exponentialWeights(algorithm, derivative, h, target, start);
	if (order === 1) return { sample, outputs: [d0], noise };
	// Divided differences of the outputs over lambda, in units of h.
	const r0 = (lambdas[1]! - lambdas[2]!) / h;
	if (order === 2) return { sample, outputs: [d0 + d1 / r0, -d1 / r0], noise };
	const r1 = (lambdas[2]! - lambdas[3]!) / h;
	const near = (d1 * (1 + r0 / (r0 + r1)) + d2 / (r0 + r1)) / r0;
	const far = (-d1 * (r0 / (r0 + r1)) - d2 / (r0 + r1)) / r1;
	return { sample, outputs: [d0 + near, far - near, -far], noise };
}

/** The weights of the sample, of the output and its scaled first and second derivatives, and of noise, over a step of h in lambda. */
function exponentialWeights(
	algorithm: Options['algorithm_type'],
	derivative: 'midpoint' | 'exact',
	h: number,
	target: NoiseLevel,
	start: NoiseLevel,
): { sample: number; d0: number; d1: number; d2: number; noise: number } {
	const midpoint = derivative === 'midpoint';
	switch (algorithm) {
		case 'dpmsolver++': {
			const e = Math.expm1(-h);
			const d1 = midpoint ? -e / 2 : e / h + 1;
			return scaled(target.alpha, { sample: target.sigma / start.sigma, d0: -e, d1, d2: -((e + h) / h ** 2 - 0.5), noise: 0 });
		}
		case 'dpmsolver': {
			const e = Math.expm1(h);
			const d1 = midpoint ? -e / 2 : -(e / h - 1);
			return scaled(target.sigma, { sample: target.alpha / start.alpha, d0: -e, d1, d2: -((e - h) / h ** 2 - 0.5), noise: 0 });
		}
		case 'sde-dpmsolver++': {
			const e = -Math.expm1(-2 * h);
			const sample = (target.sigma / start.sigma) * Math.exp(-h);
			const d1 = midpoint ? e / 2 : e / (-2 * h) + 1;
			return scaled(target.alpha, { sample, d0: e, d1, d2: (e - 2 * h) / (2 * h) ** 2 - 0.5, noise: target.sigma * Math.sqrt(e) });
		}
		case 'sde-dpmsolver': {
			const e = Math.expm1(h);
			const d1 = midpoint ? -e : -2 * (e / h - 1);
			const noise = target.sigma * Math.sqrt(Math.expm1(2 * h));
			return scaled(target.sigma, { sample: target.alpha / start.alpha, d0: -2 * e, d1, d2: 0, noise });
		}
	}
}

function scaled<W extends { d0: number; d1: number; d2: number }>(by: number, weights: W): W {
	return { ...weights, d0: weights.d0 * by, d1: weights.d1 * by, d2: weights.d2 * by };
}
