/** @file A filled run on devices: like a training session, with the frozen work of the next step in each step. */
import type { Tensor } from '../../core/tensor.ts';
import { createLocalEngine, type LocalEngine } from '../../engine/local/engine.ts';
import { type Chain, traceChain } from '../../nn/chain.ts';
import { adamwGraph } from '../../program/adamw.ts';
import { deviceId } from '../../program/types.ts';
import { initialValues, placedParameters } from '../parameters.ts';
import { microBatchSize } from '../plan.ts';
import type { SessionConfig, SessionOptions, SteppedResult, TrainingSession } from '../session.ts';
import type { FrozenStore } from './frozen-store.ts';
import type { RunParts } from './parts.ts';
import type { FilledPlan } from './plan.ts';

/** A session whose steps also run the frozen parts of the step after. */
export interface FilledSession extends TrainingSession {
	readonly filled: FilledPlan;
	/** Runs the frozen parts for the first step, or for the next after one without `ahead`. */
	begin(frozen: Readonly<Record<string, Tensor>>, swept?: boolean): Promise<void>;
	/** Without `ahead` no frozen part runs, as in a run's last step. */
	step: TrainingSession['step'];
}

/** How a filled session is opened. */
export interface FilledSessionOptions extends Pick<SessionOptions, 'average' | 'seed' | 'store'> {
	/** Memory of frozen banks that have their weights already; absent: they are read. */
	readonly frozen?: Pick<FrozenStore, 'bank'> | undefined;
}

/** Starts the devices of `filled`. The caller closes the session; the parts' weights are read before this returns. */
export async function openFilledSession(
	chain: Chain,
	config: SessionConfig,
	parts: RunParts,
	filled: FilledPlan,
	{ average, seed, store, frozen }: FilledSessionOptions,
): Promise<FilledSession> {
	const { compiled, plan, profile } = filled;
	const own = store?.(compiled.program);
	const engine = await createLocalEngine(compiled, {
		update: adamwGraph(average),
		threads: config.parallel.threads_per_device,
		banks: (device, bank) => frozen?.bank(bank) ?? own?.(device, bank),
	});
	try {
		if (!frozen) await setFrozenWeights(engine, parts, filled);
	} catch (error) {
		await engine.close();
		throw error;
	}
	const parameters = placedParameters(engine, compiled.banks);
	if (seed !== undefined) {
		for (const p of parameters) {
			const values = initialValues(p, seed);
			for (const view of p.views('parameter')) view.set(values);
			if (average) for (const view of p.views({ moment: 2 })) view.set(values);
		}
	}
	const layers = profile.backbones[0]!.layers;
	return {
		filled,
		plan: {
			trace: traceChain(chain, microBatchSize(config)),
			compiled,
			recompute: filled.recompute,
			cuts: plan.stages.slice(1).map((stage) => stage.layers[0]),
			stages: plan.stages.map(({ layers: [from, to], forwardMs, backwardMs }) => ({
				layers: layers.slice(from, to).map(({ name }) => name),
				ms: forwardMs + backwardMs,
			})),
		},
		parameters,
		async begin(frozen, swept = false) {
			await engine.run('prologue', frozen, { swept });
		},
		async step(feeds, hyper, trace = false, ahead, swept = false): Promise<SteppedResult> {
			const section: 'iteration' | 'epilogue' = ahead ? 'iteration' : 'epilogue';
			const { fetched, timeline, held } = await engine.run(
				section,
				{ ...feeds, ...ahead, hyper: { dtype: 'float32', shape: [hyper.length], data: hyper } },
				{ trace, swept },
			);
			const numbers = (name: string) => fetched.get(name)!.data as Float32Array;
			const traced = timeline && held && { timeline, held, compiled, section, swept };
			return { loss: numbers('loss').reduce((a, b) => a + b, 0), gradNorm: Math.sqrt(numbers('normSquared')[0]!), traced };
		},
		close: () => engine.close(),
	};
}

/** Reads the weights of the frozen parts into their banks on every device. */
export async function setFrozenWeights(
	engine: LocalEngine,
	{ parts }: Pick<RunParts, 'parts'>,
	{ compiled }: { readonly compiled: Pick<FilledPlan['compiled'], 'frozenBanks'> },
): Promise<void> {
	const read = new Map<string, Float32Array>();
	for (const { device, part, layout } of compiled.frozenBanks) {
		const buffer = engine.bank(deviceId(device), layout.bank, 'parameter');
		const { weights } = parts.find(({ name }) => name === part)!;
		for (const { name, offset } of layout.parameters) {
			const key = `${part}/${name}`;
			let values = read.get(key);
			if (!values) {
				values = await weights(name);
				read.set(key, values);
			}
			buffer.set(values, offset);
		}
	}
}
