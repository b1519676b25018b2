/** @file Lays a training run over devices: measures every layer, cuts the chain by time, lowers and verifies. */
import { DiffusionPipeError } from '../core/errors.ts';
import { byteSize } from '../core/tensor.ts';
import { measureGraphs } from '../engine/local/measure.ts';
import { type Chain, type ChainTrace, liveAt, traceChain } from '../nn/chain.ts';
import { partitionChain } from '../plan/partition/chain.ts';
import { scheduleByName } from '../plan/schedules/index.ts';
import { adamwHyperSize } from '../program/adamw.ts';
import { type Compiled, lowerTraining, signatureOf, stageRanges } from '../program/lower.ts';
import { trainedDefinitions, trainingStage } from '../program/stage.ts';
import { verifyProgram } from '../program/verify.ts';
import type { SessionConfig } from './session.ts';

/** A compiled run with what is known of its stages. */
export interface TrainingPlan {
	readonly trace: ChainTrace;
	readonly compiled: Compiled;
	readonly cuts: readonly number[];
	/** Per stage: layer names, and measured forward + backward time per micro-batch (0 when nothing was measured). */
	readonly stages: readonly { readonly layers: readonly string[]; readonly ms: number }[];
}

/** Devices a config uses. */
export function deviceCount({ parallel: p }: Pick<SessionConfig, 'parallel'>): number {
	return p.pipeline_stages * p.data_parallel;
}

/** Samples of one micro-batch. */
export function microBatchSize({ train: t, parallel: p }: SessionConfig): number {
	return t.batch_size / (p.data_parallel * t.gradient_accumulation_steps);
}

/**
 * Compiles `chain` (with its objective) as `config` says. `knownCuts` are taken instead of measuring, so that a resumed run is cut
 * as it was. Throws a config error when there are more stages than layers, a program error when memory does not suffice.
 */
export async function planTraining(
	config: SessionConfig,
	chain: Chain,
	moments: number,
	knownCuts?: readonly number[],
): Promise<TrainingPlan> {
	const { parallel: p, train: t } = config;
	const batch = microBatchSize(config);
	const trace = traceChain(chain, batch);
	const layers = chain.layers.length;
	if (p.pipeline_stages > layers) {
		throw new DiffusionPipeError('config', 'there are more stages than layers', {
			place: 'parallel.pipeline_stages',
			expected: `at most ${layers}`,
			found: String(p.pipeline_stages),
		});
	}
	let cuts: readonly number[] = [];
	let layerMs: readonly number[] = new Array<number>(layers).fill(0);
	if (p.pipeline_stages > 1) {
		if (p.partition_method === 'manual') cuts = p.partition_split!;
		else if (knownCuts?.length === p.pipeline_stages - 1) cuts = knownCuts;
		else {
			const profile = await measureLayers(trace, batch, p.threads_per_device);
			layerMs = profile.ms;
			const memory = p.memory_bytes > 0 ? { memory: { layerBytes: profile.bytes, limitBytes: p.memory_bytes } } : {};
			cuts = partitionChain({ layerMs, stages: p.pipeline_stages, ...memory })
				.stages.slice(1)
				.map((s) => s.from);
		}
	}
	const compiled = lowerTraining(trace, {
		cuts,
		replicas: p.data_parallel,
		microBatches: t.gradient_accumulation_steps,
		microBatchSize: batch,
		schedule: scheduleByName(
			p.pipeline_schedule,
			'parallel.pipeline_schedule',
		)({ stages: p.pipeline_stages, microBatches: t.gradient_accumulation_steps }),
		recompute: p.activation_checkpointing,
		moments,
		hyperSize: adamwHyperSize,
	});
	verifyProgram(compiled.program, p.memory_bytes > 0 ? { memoryBytes: p.memory_bytes } : {});
	const stages = stageRanges(layers, cuts).map(([from, to]) => ({
		layers: chain.layers.slice(from, to).map((l) => l.name),
		ms: layerMs.slice(from, to).reduce((a, b) => a + b, 0),
	}));
	return { trace, compiled, cuts, stages };
}

/** Forward + backward time (ms) and bytes (parameters with gradients and moments, saved values) of every layer at `batch` samples. */
export async function measureLayers(
	trace: ChainTrace,
	batch: number,
	threads = 1,
): Promise<{ readonly ms: readonly number[]; readonly bytes: readonly number[] }> {
	const trained = trainedDefinitions(trace);
	const built = trace.chain.layers.map((_, i) => {
		const back = new Set(liveAt(trace, i + 1).filter((id) => trained.has(id)));
		return trainingStage(trace, i, i + 1, batch, back, trace.outputs, 'views');
	});
	const graphs = built.flatMap((b) => (b.backward ? [b.forward, b.backward] : [b.forward]));
	const times = await measureGraphs(graphs, { threads });
	let at = 0;
	const ms = built.map((b) => times[at++]! + (b.backward ? times[at++]! : 0));
	const bytes = built.map((b) => {
		const parameters = b.stage.parameters.reduce((n, p) => n + byteSize({ dtype: 'float32', shape: p.shape }), 0);
		const { outputs, workspaceBytes } = signatureOf(b.forward);
		return 4 * parameters + workspaceBytes + outputs.reduce((n, o) => n + byteSize(o), 0);
	});
	return { ms, bytes };
}
