/** @file A compiled training chain with its optimiser on devices: what every trainer steps. */
import type { Tensor } from '../core/tensor.ts';
import { createLocalEngine } from '../engine/local/engine.ts';
import type { Chain } from '../nn/chain.ts';
import type { Profile } from '../plan/profile/types.ts';
import { adamwGraph, adamwHyper } from '../program/adamw.ts';
import type { Compiled } from '../program/lower.ts';
import type { BankStore } from './bank-store.ts';
import type { TrainConfig } from './config.ts';
import { initialValues, type PlacedParameter, placedParameters } from './parameters.ts';
import { planTraining, type TrainingPlan } from './plan.ts';
import { emaDecay, learningRate } from './rates.ts';
import type { TracedStep } from './recording.ts';
import type { SelfConditioning } from './self-conditioning.ts';

/** The parts of a config that say how a chain is laid out and optimised. */
export type SessionConfig = Pick<TrainConfig, 'train' | 'optimizer' | 'parallel'>;

export interface SessionOptions {
	/** Keep a moving average of the weights, in the third moment. */
	readonly average: boolean;
	/** Gives every parameter its first values, a function of this seed and its name; absent: they are left zero, to be read. */
	readonly seed?: number;
	/** Cuts to take instead of measuring. */
	readonly cuts?: readonly number[];
	/** To cut by instead of measuring; beside cuts, to predict them by. */
	readonly profile?: Profile;
	/** For steps with a sweep ahead: the live value of the chain that is fed back, and the input it becomes. */
	readonly selfConditioning?: SelfConditioning | undefined;
	/** Memory to share with sessions of the same model at other sizes; absent: the session's own. */
	readonly store?: BankStore | undefined;
}

/** What a step gave. */
export interface SteppedResult {
	readonly loss: number;
	readonly gradNorm: number;
	/** When traced: what the devices did, what they held, and in which section of the program. */
	readonly traced: Pick<TracedStep, 'timeline' | 'held' | 'section' | 'swept' | 'compiled'> | undefined;
}

export interface TrainingSession {
	readonly plan: TrainingPlan;
	readonly parameters: readonly PlacedParameter[];
	/** One optimiser step: the sum of the chain's `loss` over the batch, and the global gradient norm before clipping. */
	step(
		feeds: Readonly<Record<string, Tensor>>,
		hyper: Float32Array,
		trace?: boolean,
		/** What a filled session runs for the next step; others do not read it. */
		ahead?: Readonly<Record<string, Tensor>>,
		/** With the sweep ahead, in sessions with self-conditioning. */
		swept?: boolean,
	): Promise<SteppedResult>;
	/**
	 * Runs the frozen parts for the first step, in sessions that have some. `swept`: as a step with the sweep ahead would have, so that a resumed run has the
	 * same bits.
	 */
	begin?(frozen: Readonly<Record<string, Tensor>>, swept?: boolean): Promise<void>;
	/** In sessions of several sizes: that of images which a program is for; undefined for a program that is none of theirs. */
	sizeOf?(compiled: Compiled): string | undefined;
	/** Between two steps: plans again if it is time to. True when parameters lie elsewhere afterwards. */
	rearrange?(): Promise<boolean>;
	close(): Promise<void>;
}

/** Learning rate and hyperparameter vector of step `step` (from 0). */
export function hyperOf(config: SessionConfig, step: number): { readonly lr: number; readonly hyper: Float32Array } {
	const { optimizer: o, train } = config;
	const lr = learningRate(config, step);
	const hyper = adamwHyper({
		lr,
		betas: o.betas,
		eps: o.eps,
		weightDecay: o.weight_decay,
		step: step + 1,
		maxGradNorm: train.gradient_clipping > 0 ? train.gradient_clipping : Number.POSITIVE_INFINITY,
		emaDecay: emaDecay(train.ema_decay, step + 1),
	});
	return { lr, hyper };
}

/** Plans `chain` (one output, `loss`, that sums over samples) and starts its devices. The caller closes the session. */
export async function openSession(
	chain: Chain,
	config: SessionConfig,
	{ average, seed, cuts, profile, store, selfConditioning }: SessionOptions,
): Promise<TrainingSession> {
	const plan = await planTraining(config, chain, average ? 3 : 2, {
		...(cuts ? { cuts } : {}),
		...(profile ? { profile } : {}),
		...(selfConditioning ? { selfConditioning } : {}),
	});
	const { compiled } = plan;
	const start = {
		update: adamwGraph(average),
		threads: config.parallel.threads_per_device,
		...(store ? { banks: store(compiled.program) } : {}),
	};
	const engine = await createLocalEngine(compiled, start);
	const parameters = placedParameters({ ...compiled, bank: engine.bank }, compiled.banks);
	if (seed !== undefined) {
		for (const p of parameters) {
			const values = initialValues(p, seed);
			for (const view of p.views('parameter')) view.set(values);
			if (average) for (const view of p.views({ moment: 2 })) view.set(values);
		}
	}
	return {
		plan,
		parameters,
		async step(feeds, hyper, trace = false, _ahead = {}, swept = false) {
			const { fetched, timeline, held } = await engine.run(
				'iteration',
				{ ...feeds, hyper: { dtype: 'float32', shape: [hyper.length], data: hyper } },
				{ trace, swept },
			);
			const numbers = (name: string) => fetched.get(name)!.data as Float32Array;
			const traced = timeline && held && { timeline, held, compiled, section: 'iteration' as const, swept };
			return { loss: numbers('loss').reduce((a, b) => a + b, 0), gradNorm: Math.sqrt(numbers('normSquared')[0]!), traced };
		},
		close: () => engine.close(),
	};
}
