/** @file What is laid over devices: backbones, the schedule that runs their stages, and which devices hold what. */
import { DiffusionPipeError } from '../../core/errors.ts';
import type { Recompute } from '../../graph/saved.ts';
import { type ChainTrace, traceChain } from '../../nn/chain.ts';
import { deviceNumbering } from '../../plan/cluster/places.ts';
import { chainsOf } from '../../plan/schedules/topology.ts';
import type { PlacedSchedule } from '../../plan/schedules/types.ts';
import { validatePlaced } from '../../plan/schedules/validate.ts';
import type { Layout } from '../../plan/types.ts';
import { stageRanges } from './ranges.ts';

/** A chain to be trained, whose outputs are losses. */
export interface TrainedBackbone {
	readonly trace: ChainTrace;
	/** First layer of each stage but the first. */
	readonly cuts: readonly number[];
	/**
	 * Iterations with a sweep ahead first run the chain up to the live value `output`, without gradients, and then take that value as the chain input
	 * `input`. In the sweep, and in other iterations, `input` is fed from the host like any other (zeros).
	 */
	readonly selfConditioning?: { readonly input: string; readonly output: string };
}

/** How training is laid over devices. */
export interface PipelineLayout {
	/** One chain of stages per backbone. */
	readonly schedule: PlacedSchedule;
	/** The schedule of iterations with the sweep ahead, for backbones with self-conditioning. */
	readonly sweptSchedule?: PlacedSchedule;
	/** Copies of the whole pipeline, each on its share of the batch. */
	readonly pipelines: number;
	/** Devices per rank that share a micro-batch; one each unless given. */
	readonly replicas?: readonly number[];
	/** Which devices stand beside each other; `pipelines` unless given. */
	readonly layout?: Layout;
	readonly microBatches: number;
	/** Samples of one micro-batch of one pipeline. */
	readonly microBatchSize: number;
	readonly recompute?: Recompute;
	/** Moments the optimiser keeps per parameter (AdamW 2, with EMA 3). */
	readonly moments: number;
	/** Length of the hyperparameter vector fed to `update`; 0: no update, the program only leaves the gradients in their banks. */
	readonly hyperSize: number;
}

/** A stage of the schedule. */
export interface Stage {
	/** Its number in the schedule. */
	readonly index: number;
	readonly rank: number;
	/** Number of its backbone. */
	readonly backbone: number;
	/** Its number among the trained stages of all backbones, that of its bank; a sweep's that of the trained stage with its weights. */
	readonly number: number;
	/** Of a sweep that ends before the chain does it may be empty. */
	readonly layers: readonly [from: number, to: number];
	/** A stage of the sweep ahead. */
	readonly sweep: boolean;
}

/** Samples [from, to) of a micro-batch. */
export type Rows = readonly [from: number, to: number];

export interface Job {
	readonly backbones: readonly TrainedBackbone[];
	readonly layout: PipelineLayout;
	/** Before the names of a backbone's slots, sources and fetches: empty where there is one backbone. */
	readonly scopes: readonly string[];
	readonly replicas: readonly number[];
	readonly deviceCount: number;
	/** Device numbers of a rank in a pipeline. */
	devices(rank: number, pipeline: number): readonly number[];
	/** What the i-th device of a rank takes of each micro-batch. */
	rows(rank: number, i: number): Rows;
	/** The chain of a stage: of a sweep one that ends in what is fed back. */
	trace(stage: Pick<Stage, 'backbone' | 'sweep'>): ChainTrace;
}

/** Throws a program error when the parts of the layout do not fit each other. */
export function createJob(backbones: readonly TrainedBackbone[], layout: PipelineLayout): Job {
	const { schedule, pipelines, microBatchSize } = layout;
	const replicas = layout.replicas ?? new Array<number>(schedule.ranks).fill(1);
	if (replicas.length !== schedule.ranks) mismatch('replicas of other ranks', `${schedule.ranks} numbers`, `${replicas.length}`);
	const most = Math.max(...replicas);
	if (most > microBatchSize) {
		const rank = replicas.indexOf(most);
		mismatch('a micro-batch has fewer samples than a rank has devices', `at least ${most}, for rank ${rank}`, `${microBatchSize}`);
	}
	const devices = replicas.reduce((a, b) => a + b, 0);
	const offsets = replicas.map((_, rank) => replicas.slice(0, rank).reduce((a, b) => a + b, 0));
	const number = deviceNumbering(layout.layout ?? 'pipelines', pipelines, devices);
	const sweeps = backbones.map(({ trace, selfConditioning: s }) => s && traceChain({ ...trace.chain, outputs: [s.output] }, trace.batch));
	return {
		backbones,
		layout,
		scopes: backbones.map(({ trace }) => (backbones.length === 1 ? '' : `${trace.chain.name}.`)),
		replicas,
		deviceCount: pipelines * devices,
		devices: (rank, pipeline) =>
			Array.from({ length: replicas[rank]! }, (_, i) => number({ offset: offsets[rank]!, count: replicas[rank]! }, pipeline, i)),
		rows: (rank, i) => [Math.round((i * microBatchSize) / replicas[rank]!), Math.round(((i + 1) * microBatchSize) / replicas[rank]!)],
		trace: ({ backbone, sweep }) => (sweep ? sweeps[backbone]! : backbones[backbone]!.trace),
	};
}

/** The stages of a schedule of the job, in its numbering. Throws a program error when it has other chains or another number of stages than the job. */
export function stagesOf(job: Job, schedule: PlacedSchedule): readonly Stage[] {
	validatePlaced(schedule, job.layout.microBatches);
	const chains = chainsOf(schedule.stages);
	if (chains.length !== job.backbones.length) {
		mismatch('the schedule has another number of backbones', `${job.backbones.length}`, `${chains.length}`);
	}
	const stages: Stage[] = new Array(schedule.stages.length);
	let first = 0;
	job.backbones.forEach(({ trace, cuts }, backbone) => {
		const ranges = stageRanges(trace.chain.layers.length, cuts);
		const place = (index: number, position: number, sweep: boolean) => {
			const [from, to] = ranges[position]!;
			const end = sweep ? sweepEnd(job, backbone) : to;
			const layers = [Math.min(from, end), Math.min(to, end)] as const;
			stages[index] = { index, rank: schedule.stages[index]!.rank, backbone, number: first + position, layers, sweep };
		};
		const swept = chains[backbone]!.filter((index) => schedule.stages[index]!.forwardOnly);
		const trained = chains[backbone]!.filter((index) => !schedule.stages[index]!.forwardOnly);
		for (const each of [trained, ...(swept.length > 0 ? [swept] : [])]) {
			if (each.length !== ranges.length) {
				mismatch('the schedule has another number of stages', `${ranges.length} stages of ${trace.chain.name}`, `${each.length}`);
			}
		}
		swept.forEach((index, position) => {
			if (schedule.stages[index]!.rank !== schedule.stages[trained[position]!]!.rank)
				mismatch('a sweep runs apart from its weights', `rank ${schedule.stages[trained[position]!]!.rank}`, `stage ${index}`);
			place(index, position, true);
		});
		trained.forEach((index, position) => {
			place(index, position, false);
		});
		first += ranges.length;
	});
	return stages;
}

/** Where the sweep of a backbone ends: after the layer that makes what is fed back. */
function sweepEnd(job: Job, backbone: number): number {
	const { trace, selfConditioning } = job.backbones[backbone]!;
	const place = `chain ${trace.chain.name}`;
	if (!selfConditioning) {
		throw new DiffusionPipeError('program', 'the schedule has a sweep ahead of a chain without self-conditioning', {
			place,
			expected: 'what is fed back to which input',
		});
	}
	const swept = job.trace({ backbone, sweep: true });
	const { layer, dtype, shape } = swept.definitions.get(swept.outputs[0]!)!;
	const input = trace.chain.inputs[selfConditioning.input];
	const fits = input && input.dtype === dtype && input.shape.join() === shape.slice(1).join();
	if (!fits) {
		throw new DiffusionPipeError('program', `${selfConditioning.output} cannot be fed back as ${selfConditioning.input}`, {
			place,
			expected: `an input ${dtype}[${shape.slice(1).join(', ')}]`,
			found: input ? `${input.dtype}[${input.shape.join(', ')}]` : `inputs ${Object.keys(trace.chain.inputs).join(', ')}`,
		});
	}
	return layer + 1;
}

function mismatch(what: string, expected: string, found: string): never {
	throw new DiffusionPipeError('program', what, { place: 'lowering', expected, found });
}
