/** @file What a plan's profile says about a program's instructions, for walking the very program that runs. */
import { allReduceMs, transferMs } from '../../plan/cluster/links.ts';
import type { Cluster } from '../../plan/cluster/types.ts';
import { timeAt } from '../../plan/profile/times.ts';
import type { Profile } from '../../plan/profile/types.ts';
import type { Plan, PlanStage } from '../../plan/types.ts';
import { plainProgram, sweptProgram } from '../../program/swept.ts';
import { extentOf, ofIteration } from '../../program/timeline.ts';
import type { GraphId, Instruction, Program } from '../../program/types.ts';
import { type SimulationCosts, simulate } from './simulate.ts';

/** A plan with what it was made from. */
interface Planned {
	readonly profile: Profile;
	readonly cluster: Cluster;
	readonly plan: Plan;
}

/**
 * Costs of `program` (of one kind of iteration), whose stages are those of the plan: runs of stages and of frozen layers take what the profile says; other
 * graphs, and what devices do between runs, what its `handling` says, nothing without.
 */
export function costsOf(program: Program, { profile, cluster, plan }: Planned): SimulationCosts {
	const runMs = new Map<GraphId, number>();
	const runs = program.devices.flatMap(({ prologue, iteration, epilogue }) =>
		[...prologue, ...iteration, ...epilogue].flatMap((i) => (i.op === 'run' ? [i] : [])),
	);
	// A sweep's stages come before the plan's, one for each of them.
	const sweeps = Math.max(0, ...runs.map(({ action }) => (action?.stage ?? 0) + 1 - plan.stages.length));
	const stageOf = (stage: number) => plan.stages[stage < sweeps ? stage : stage - sweeps];
	for (const run of runs) runMs.set(run.graph, msOf(run, profile, plan, stageOf));
	const trained = profile.backbones.flatMap(({ layers }) => layers);
	const elements = trained.reduce((sum, { gradBytes }) => sum + gradBytes / 4, 0);
	const updateMs = trained.reduce((sum, layer) => sum + (layer.updateMs ?? 0), 0);
	const { handling: h } = profile;
	return {
		runMs: (graph) => runMs.get(graph) || (h?.joinMs ?? 0),
		transferMs: (bytes, from, to) => h?.messageMs ?? transferMs(cluster, bytes, from, to),
		allReduceMs: (bytes, devices) => allReduceMs(cluster, bytes, devices),
		updateMs: (count) => (elements > 0 ? (updateMs * count) / elements : 0),
		...(h ? { feedMs: () => h.feedMs, fetchMs: () => h.fetchMs, sendMs: h.sendMs, betweenMs: h.betweenMs } : {}),
	};
}

/**
 * One iteration of `program` as the host waits for it, all devices beginning it together, ms; with self-conditioning what is to be expected of both kinds of
 * iteration at the plan's probability.
 */
export function programMs(program: Program, planned: Planned): number {
	const swept = sweptProgram(program);
	if (!swept) return kindMs(program, planned);
	const share = planned.plan.selfConditioning?.probability ?? 0;
	return (1 - share) * kindMs(plainProgram(program), planned) + share * kindMs(swept, planned);
}

function kindMs(program: Program, planned: Planned): number {
	const { start, end } = extentOf(ofIteration(simulate(program, costsOf(program, planned), { together: true }), 0));
	return end - start + (planned.profile.handling?.stepMs ?? 0);
}

function msOf(
	{ action, frozen }: Extract<Instruction, { op: 'run' }>,
	{ batchSizes, backbones, frozen: components }: Profile,
	plan: Plan,
	stageOf: (stage: number) => PlanStage | undefined,
): number {
	const sum = <L>(layers: readonly L[], [from, to]: readonly [number, number], of: (layer: L) => number) =>
		layers.slice(from, to).reduce((ms, layer) => ms + of(layer), 0);
	if (frozen) {
		const layers = components.find(({ name }) => name === frozen.part)?.layers ?? [];
		const samples = frozen.samples[1] - frozen.samples[0];
		return sum(layers, frozen.layers, ({ forwardMs }) => timeAt(batchSizes, forwardMs, samples));
	}
	const stage = action && stageOf(action.stage);
	if (!action || !stage) return 0;
	const layers = backbones.find(({ name }) => name === stage.backbone)?.layers ?? [];
	const local = plan.batch / (plan.pipelines * plan.microBatches * stage.replicas);
	const of = (key: 'forwardMs' | 'backwardInputMs' | 'backwardWeightMs') =>
		sum(layers, stage.layers, (layer) => timeAt(batchSizes, layer[key], local));
	const inputs = () => of('backwardInputMs') + (plan.recompute ? of('forwardMs') : 0);
	switch (action.kind) {
		case 'F':
			return of('forwardMs');
		case 'I':
			return inputs();
		case 'W':
			return of('backwardWeightMs');
		default:
			return inputs() + of('backwardWeightMs');
	}
}
