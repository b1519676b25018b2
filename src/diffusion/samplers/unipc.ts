/** @file UniPCMultistepScheduler: the unified predictor-corrector solver (Zhao et al., arXiv 2302.04867). */
import { DiffusionPipeError } from '../../core/errors.ts';
import { type NoiseLevel, originalMix } from '../prediction.ts';
import { linspace } from '../schedule.ts';
import { shiftSigma } from '../timesteps.ts';
import { mix, mixOutput, originalLimiter, type Term } from './combine.ts';
import { checkMultistep, impliedNoise, lambdaOf, levelOfSigma, multistepOptions, multistepProcess, wholeTimesteps } from './multistep.ts';
import { choice, flag, integer, nullable, number, numbers, type OptionValues, unsupported } from './options.ts';
import { type RunOptions, samplerClass } from './sampler.ts';
import { requireMu, requireOnePerStep, sigmaAt, sigmaTable, spacedSigmas, stretchToTerminal, timeShift, timestepOf } from './sigmas.ts';
import { roundHalfEven, spacedTimesteps } from './spacing.ts';

const place = 'UniPCMultistepScheduler';

const options = {
	...multistepOptions,
	solver_order: integer(2, 1),
	predict_x0: flag(true),
	solver_type: choice('bh2', ['bh1', 'bh2'], { midpoint: 'bh2', heun: 'bh2', logrho: 'bh2' }),
	disable_corrector: numbers([]),
	solver_p: unsupported(null, 'another predictor'),
	sigma_min: nullable(number(0, 0)),
	sigma_max: nullable(number(0, 0)),
	shift_terminal: nullable(number(0)),
} as const;

type Options = OptionValues<typeof options>;

/** UniPCMultistepScheduler. Run options: `mu`, and `sigmas` with `use_flow_sigmas`. */
export const uniPcMultistep = samplerClass({
	className: place,
	options,
	runOptions: ['mu', 'sigmas'],
	predictionType: (options) => options.prediction_type,
	process: multistepProcess,
	parts(options, run) {
		const { solver_order: highest, prediction_type: type, use_flow_sigmas: flow, predict_x0: forX0 } = options;
		checkUniPc(options, run);
		const { timesteps, sigmas } = uniPcSchedule(options, run);
		const levels = sigmas.map((sigma) => levelOfSigma(flow, sigma));
		const limit = originalLimiter(place, options, run.batch);
		const count = timesteps.length;

		const predictOriginal = (modelOutput: Float32Array, i: number, sample: Float32Array) =>
			limit(mixOutput(originalMix(type, levels[i]!), sample, modelOutput));

		/** From level `start` to the next; `corrector` is the output found there, when the step is made again with it. */
		const move = (start: number, order: number, sample: Float32Array, outputs: readonly Float32Array[], corrector?: Float32Array) => {
			const earlier = Array.from({ length: order - 1 }, (_, k) => levels[start - 1 - k]!);
			const weights = uniWeights(options, levels[start + 1]!, levels[start]!, earlier, corrector !== undefined);
			const terms: Term[] = weights.outputs.map((weight, back) => [weight, outputs.at(-1 - back)!]);
			if (corrector !== undefined) terms.push([weights.corrector, corrector]);
			return mix([weights.sample, sample], ...terms);
		};

		return {
			timesteps,
			sigmas,
			initNoiseSigma: 1,
			needsNoise: () => false,
			levelAt: (t) => levels[timesteps.indexOf(t)],
			predictOriginal,
			step(modelOutput, i, sample, state) {
				const output = forX0 ? predictOriginal(modelOutput, i, sample) : impliedNoise(type, levels[i]!, modelOutput, sample);
				const corrects = state.lastSample !== null && i > 0 && !options.disable_corrector.includes(i - 1);
				const corrected = corrects ? move(i - 1, state.order, state.lastSample!, state.history, output) : sample;
				const history = [...state.history, output].slice(-highest);
				const wanted = options.lower_order_final ? Math.min(highest, count - i) : highest;
				const order = Math.min(wanted, state.history.length + 1);
				return { sample: move(i, order, corrected, history), state: { history, order, lastSample: corrected } };
			},
		};
	},
});

/** Timesteps and sigmas, the latter with the level after the last step. */
function uniPcSchedule(options: Options, run: RunOptions): { timesteps: number[]; sigmas: number[] } {
	const { steps } = run;
	const { num_train_timesteps: trained, use_flow_sigmas: flow } = options;
	const table = sigmaTable(options);
	const withEnd = (sigmas: readonly number[], lowest: number) =>
		[...sigmas, options.final_sigmas_type === 'zero' ? 0 : lowest].map(Math.fround);

	const spaced = spacedSigmas(place, options, options.sigma_min ?? table[0]!, options.sigma_max ?? table.at(-1)!, steps);
	if (spaced !== undefined) {
		const sigmas = flow ? spaced.map((sigma) => sigma / (sigma + 1)) : spaced;
		const exact = flow ? sigmas.map((sigma) => sigma * trained) : sigmas.map((sigma) => timestepOf(table, sigma));
		const rounds = options.use_karras_sigmas && !flow;
		return { timesteps: rounds ? exact.map(roundHalfEven) : wholeTimesteps(exact), sigmas: withEnd(sigmas, sigmas.at(-1)!) };
	}
	if (flow) {
		const even = [...(run.sigmas ?? linspace(1, 1 / trained, steps + 1).slice(0, steps))];
		const shifted = even.map((sigma) =>
			run.mu === undefined ? shiftSigma(sigma, options.flow_shift) : timeShift(options.time_shift_type, run.mu, sigma),
		);
		const sigmas = options.shift_terminal ? stretchToTerminal(shifted, options.shift_terminal) : shifted;
		// Pure noise has lambda of minus infinity, which no step can start from.
		if (Math.abs(sigmas[0]! - 1) < 1e-6) sigmas[0]! -= 1e-6;
		return { timesteps: wholeTimesteps(sigmas.map((sigma) => sigma * trained)), sigmas: withEnd(sigmas, sigmas.at(-1)!) };
	}
	const timesteps = spacedTimesteps(place, steps, options, { extraPoint: true });
	return {
		timesteps,
		sigmas: withEnd(
			timesteps.map((t) => sigmaAt(table, t)),
			table[0]!,
		),
	};
}

function checkUniPc(options: Options, run: RunOptions): void {
	checkMultistep(place, options, !options.predict_x0);
	requireMu(place, options.use_dynamic_shifting, run.mu);
	requireOnePerStep(place, run.steps, run.sigmas);
	const refuse = (what: string, expected: string, found: string) => {
		throw new DiffusionPipeError('config', what, { place, expected, found });
	};
	if (options.shift_terminal !== null && !options.use_flow_sigmas)
		refuse('shift_terminal needs flow sigmas', 'use_flow_sigmas true', 'false');
	if (run.sigmas !== undefined && (!options.use_flow_sigmas || options.use_karras_sigmas)) {
		refuse('sigmas do not apply', 'use_flow_sigmas true and use_karras_sigmas false', 'sigmas given');
	}
	if (!options.lower_order_final && options.solver_order > 1 && options.final_sigmas_type === 'zero') {
		refuse('a step of high order cannot end at sigma 0', 'lower_order_final true, or final_sigmas_type sigma_min', 'neither');
	}
	if (!options.predict_x0 && options.final_sigmas_type === 'zero') {
		refuse('a solver for the noise cannot end at sigma 0', 'final_sigmas_type sigma_min', 'zero');
	}
}

/**
 * The weights of a step from level `start` to `target`: on the sample, on the outputs at `start` and at the `earlier` levels (latest first), and
 * for a corrector on the output at `target`. Equations 3 to 9 of the paper, with B(h) = h (bh1) or e^h - 1 (bh2).
 */
function uniWeights(
	options: Options,
	target: NoiseLevel,
	start: NoiseLevel,
	earlier: readonly NoiseLevel[],
	corrects: boolean,
): { sample: number; outputs: number[]; corrector: number } {
	const h = lambdaOf(target) - lambdaOf(start);
	// A step of no length, as when final_sigmas_type repeats the last level.
	if (h === 0) return { sample: 1, outputs: [], corrector: 0 };
	const signed = options.predict_x0 ? -h : h;
	const growth = Math.expm1(signed);
	const sample = options.predict_x0 ? target.sigma / start.sigma : target.alpha / start.alpha;
	const scale = -(options.predict_x0 ? target.alpha : target.sigma);

	const ratios = earlier.map((level) => (lambdaOf(level) - lambdaOf(start)) / h);
	const nodes = corrects ? [...ratios, 1] : ratios;
	const b = options.solver_type === 'bh1' ? signed : growth;
	const shares = nodes.length === 0 ? [] : nodeShares(nodes, signed, growth, b);
	// Each node adds share * (its output - the output at start) / its ratio.
	const differences = shares.map((share, k) => (scale * b * share) / nodes[k]!);
	const sum = differences.reduce((total, weight) => total + weight, 0);
	return {
		sample,
		outputs: [scale * growth - sum, ...differences.slice(0, ratios.length)],
		corrector: corrects ? differences.at(-1)! : 0,
	};
}

function nodeShares(nodes: readonly number[], signed: number, growth: number, b: number): number[] {
	// For one node 1/2 keeps the order of accuracy whatever B is.
	if (nodes.length === 1) return [0.5];
	const right: number[] = [];
	let phi = growth / signed - 1;
	let factorial = 1;
	for (let k = 1; k <= nodes.length; k++) {
		right.push((phi * factorial) / b);
		factorial *= k + 1;
		phi = phi / signed - 1 / factorial;
	}
	return solve(
		right.map((_, row) => nodes.map((node) => node ** row)),
		right,
	);
}

/** Solves a small linear system by elimination with row exchanges. */
function solve(matrix: number[][], right: readonly number[]): number[] {
	const rows = matrix.map((row, i) => [...row, right[i]!]);
	const size = rows.length;
	for (let column = 0; column < size; column++) {
		let pivot = column;
		for (let r = column + 1; r < size; r++) if (Math.abs(rows[r]![column]!) > Math.abs(rows[pivot]![column]!)) pivot = r;
		[rows[column], rows[pivot]] = [rows[pivot]!, rows[column]!];
		for (let r = 0; r < size; r++) {
			if (r === column) continue;
			const factor = rows[r]![column]! / rows[column]![column]!;
			for (let c = column; c <= size; c++) rows[r]![c]! -= factor * rows[column]![c]!;
		}
	}
	return rows.map((row, i) => row[size]! / row[i]!);
}
