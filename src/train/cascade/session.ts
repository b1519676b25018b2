/** @file Two chains with an optimiser each on devices: one program steps both, and runs the frozen parts of the step after where it has some. */
import type { Tensor } from '../../core/tensor.ts';
import { createLocalEngine } from '../../engine/local/engine.ts';
import { adamwGraph } from '../../program/adamw.ts';
import type { RunParts } from '../filled/parts.ts';
import { setFrozenWeights } from '../filled/session.ts';
import { initialValues, type PlacedParameter, placedParameters } from '../parameters.ts';
import type { SessionConfig, SteppedResult } from '../session.ts';
import { backboneNames, type PerBackbone, perBackbone } from './config.ts';
import type { CascadePlan } from './plan.ts';

/** What a step of both gave. */
export interface CascadeStepped {
	/** The sum of the chain's `loss` over the batch. */
	readonly losses: PerBackbone<number>;
	/** Each model's own, before clipping. */
	readonly gradNorms: PerBackbone<number>;
	readonly traced: SteppedResult['traced'];
}

/** What a step is fed. */
export interface CascadeFeeds {
	readonly feeds: PerBackbone<Readonly<Record<string, Tensor>>>;
	readonly hyper: PerBackbone<Float32Array>;
	/** In a filled session, what the frozen parts of the next step take; without it that step is the last. */
	readonly ahead?: Readonly<Record<string, Tensor>> | undefined;
	readonly trace?: boolean;
}

/** A cascade on devices. */
export interface CascadeSession {
	readonly plan: CascadePlan;
	readonly parameters: PerBackbone<readonly PlacedParameter[]>;
	/** Runs the frozen parts for the first step, in a filled session. */
	begin(frozen: Readonly<Record<string, Tensor>>): Promise<void>;
	/** One optimiser step of each. */
	step(fed: CascadeFeeds): Promise<CascadeStepped>;
	close(): Promise<void>;
}

export interface CascadeSessionOptions {
	/** Keep a moving average of the weights, in the third moment. */
	readonly average: boolean;
	/** Gives every parameter its first values, a function of its backbone's seed and its name; absent: they are left zero, to be read. */
	readonly seeds?: PerBackbone<number>;
	/** Of a filled plan; their weights are read before this returns. */
	readonly parts?: RunParts | undefined;
}

/** Starts the devices of `plan`. The caller closes the session. */
export async function openCascadeSession(
	plan: CascadePlan,
	{ parallel }: SessionConfig,
	{ average, seeds, parts }: CascadeSessionOptions,
): Promise<CascadeSession> {
	const { compiled } = plan;
	const { frozenBanks } = compiled;
	const engine = await createLocalEngine(compiled, { update: adamwGraph(average), threads: parallel.threads_per_device });
	try {
		if (frozenBanks && parts) await setFrozenWeights(engine, parts, { compiled: { frozenBanks } });
	} catch (error) {
		await engine.close();
		throw error;
	}
	const parameters = perBackbone((name) => {
		const b = backboneNames.indexOf(name);
		return placedParameters(
			engine,
			compiled.banks.filter((_, n) => compiled.stages[n]!.backbone === b),
		);
	});
	for (const name of seeds ? backboneNames : []) {
		for (const parameter of parameters[name]) {
			const values = initialValues(parameter, seeds![name]);
			for (const view of parameter.views('parameter')) view.set(values);
			if (average) for (const view of parameter.views({ moment: 2 })) view.set(values);
		}
	}
	return {
		plan,
		parameters,
		async begin(frozen) {
			await engine.run('prologue', frozen);
		},
		async step({ feeds, hyper, ahead, trace = false }) {
			const fed: Record<string, Tensor> = { ...ahead };
			for (const name of backboneNames) {
				for (const [input, value] of Object.entries(feeds[name])) fed[`${name}.${input}`] = value;
				fed[`${name}.hyper`] = { dtype: 'float32', shape: [hyper[name].length], data: hyper[name] };
			}
			const section = frozenBanks && !ahead ? 'epilogue' : 'iteration';
			const { fetched, timeline, held } = await engine.run(section, fed, { trace });
			const numbers = (name: string) => fetched.get(name)!.data as Float32Array;
			return {
				losses: perBackbone((name) => numbers(`${name}.loss`).reduce((a, b) => a + b, 0)),
				gradNorms: perBackbone((name) => Math.sqrt(numbers(`${name}.normSquared`)[0]!)),
				traced: timeline && held && { timeline, held, compiled, section, swept: false },
			};
		},
		close: () => engine.close(),
	};
}
