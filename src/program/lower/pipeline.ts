/** @file Lowering of training: from backbones, a placed schedule and replicas to one static program per device. */
import { DiffusionPipeError } from '../../core/errors.ts';
import type { PlacedSchedule } from '../../plan/schedules/types.ts';
import { layoutBank } from '../layout.ts';
import { type DeviceProgram, deviceId, type Program, type SourceType } from '../types.ts';
import { backwardOperation } from './backward-operation.ts';
import { bankResidents } from './banks.ts';
import { type Builds, createBuilds, type Routed } from './builds.ts';
import type { Compiled } from './compiled.ts';
import { emitLanes, type Lane } from './emit.ts';
import { earlySums, groupsOf, headOf, hyperSources, sumOf, tailOf } from './finish.ts';
import { forwardOperation } from './forward-operation.ts';
import { createJob, type Job, type PipelineLayout, type Stage, stagesOf, type TrainedBackbone } from './job.ts';
import type { Operation, Site } from './operation.ts';
import { routesOf } from './routes.ts';
import { signatureOf } from './signature.ts';
import type { Where } from './transfers.ts';

/** Training compiled, with what each stage holds. */
export interface CompiledPipelines extends Compiled {
	/** One per bank, in their order. */
	readonly stages: readonly Pick<Stage, 'backbone' | 'layers' | 'rank'>[];
}

/**
 * Compiles a training step of `backbones`, each a chain whose outputs are losses. Rank r's devices share each micro-batch of their pipeline; a value goes to
 * another rank as the rows that each device there needs. With several backbones, sources, fetches and slots are named `<chain>.<name>`. Throws program
 * errors when the parts of the layout do not fit each other, input errors when the schedule breaks a rule.
 */
export function lowerPipelines(backbones: readonly TrainedBackbone[], layout: PipelineLayout): CompiledPipelines {
	const job = createJob(backbones, layout);
	const builds = createBuilds(job);
	const routed = routedOf(job, layout.schedule);
	const trained = routed.stages.filter(({ sweep }) => !sweep).sort((a, b) => a.number - b.number);
	const parameters = trained.map((stage) => {
		const [from, to] = job.rows(stage.rank, 0);
		return builds.built(routed, stage, to - from).stage.parameters;
	});
	checkUntied(trained, parameters);
	const banks = parameters.map((all, number) => layoutBank(`stage${number}`, all));
	const program = programOf(job, builds, routed, banks);
	const swept = layout.sweptSchedule && programOf(job, builds, routedOf(job, layout.sweptSchedule), banks);
	return { program: swept ? together(program, swept) : program, graphs: builds.graphs, banks, stages: trained };
}

/** Both kinds of iteration as one program: banks, groups and sources are the same. */
function together(plain: Program, swept: Program): Program {
	return {
		...plain,
		graphs: { ...plain.graphs, ...swept.graphs },
		devices: plain.devices.map((device, k) => {
			const { prologue, iteration, epilogue } = swept.devices[k]!;
			return { ...device, swept: { prologue, iteration, epilogue } };
		}),
	};
}

interface RoutedRows extends Routed {
	readonly rows: PlacedSchedule['rows'];
}

function routedOf(job: Job, schedule: PlacedSchedule): RoutedRows {
	const stages = stagesOf(job, schedule);
	return { stages, routes: routesOf(job, stages), rows: schedule.rows };
}

function programOf(job: Job, builds: Builds, routed: RoutedRows, banks: Compiled['banks']): Program {
	const { pipelines, microBatches, microBatchSize, moments, hyperSize } = job.layout;
	const groups = groupsOf(job);
	const places = Array.from({ length: pipelines }, (_, pipeline) =>
		job.replicas.flatMap((count, rank) => Array.from({ length: count }, (_, i): Where => ({ pipeline, rank, i }))),
	).flat();
	const numbered = places.map((where) => ({ where, device: job.devices(where.rank, where.pipeline)[where.i]! }));
	const sites = numbered.sort((a, b) => a.device - b.device);
	const heldBy = (rank: number) => routed.stages.filter((stage) => stage.rank === rank && !stage.sweep);
	const lanes = sites.map(({ where, device }): Lane => {
		const known = new Map<string, Operation | undefined>();
		const operation = (site: Site, kind: 'F' | 'B' | 'I' | 'W') => {
			const key = `${kind} ${site.stage.index}`;
			if (!known.has(key)) known.set(key, kind === 'F' ? forwardOperation(site) : backwardOperation(site, kind));
			return known.get(key);
		};
		const actions = routed.rows[where.rank]!.flatMap((action) => {
			const found = operation({ job, builds, routed, stage: routed.stages[action.stage]!, where }, action.kind);
			return found ? [{ action, operation: found }] : [];
		});
		const sums = earlySums(
			actions.map(({ action }) => action),
			routed.stages,
		);
		const summed = new Set([...sums.values()].flat().map(({ number }) => number));
		const firstSample = where.pipeline * microBatches * microBatchSize;
		return {
			device,
			actions: actions.map((each, at) => ({ ...each, after: sumOf(where, sums.get(at) ?? [], banks, groups) })),
			firstSample,
			head: headOf(job),
			tail: tailOf(job, builds, where, heldBy(where.rank), banks, groups, summed),
		};
	});
	const iterations = emitLanes(lanes, microBatchSize);
	const devices = sites.map(({ where, device }, k): DeviceProgram => {
		const held = heldBy(where.rank).map(({ number, backbone }) => ({ bank: banks[number]!, scope: job.scopes[backbone]! }));
		return {
			device: deviceId(device),
			banks: held.map(({ bank: { bank, size, trained } }) => ({ id: bank, size, moments, trained })),
			residents: held.flatMap(({ bank, scope }) => bankResidents(bank, true, scope)),
			prologue: [],
			iteration: iterations[k]!,
			epilogue: [],
		};
	});
	const used = new Set(iterations.flat().flatMap((i) => (i.op === 'run' ? [i.graph] : [])));
	const sources: Record<string, SourceType> = {};
	for (const name of hyperSources(job)) sources[name] = { dtype: 'float32', shape: [hyperSize], perSample: false };
	job.backbones.forEach(({ trace: { chain } }, b) => {
		for (const [name, { dtype, shape }] of Object.entries(chain.inputs)) {
			sources[`${job.scopes[b]!}${name}`] = { dtype, shape: [pipelines * microBatches * microBatchSize, ...shape], perSample: true };
		}
	});
	return {
		version: 1,
		name: `${job.backbones.map(({ trace }) => trace.chain.name).join(' and ')} training, ${pipelines} x ${job.deviceCount / pipelines} devices`,
		devices,
		graphs: Object.fromEntries([...builds.graphs].flatMap(([id, graph]) => (used.has(id) ? [[id, signatureOf(graph)]] : []))),
		groups,
		sources,
	};
}

/** Two stages with a parameter in common would train two copies of it, apart from each other. */
function checkUntied(
	stages: readonly Stage[],
	parameters: readonly (readonly { readonly name: string; readonly trained: boolean }[])[],
): void {
	const owner = new Map<string, number>();
	stages.forEach(({ number, backbone }) => {
		for (const { name, trained } of parameters[number]!) {
			const key = `${backbone} ${name}`;
			const first = owner.get(key);
			owner.set(key, number);
			if (first === undefined || !trained) continue;
			throw new DiffusionPipeError('program', `stages ${first} and ${number} share a parameter`, {
				place: name,
				expected: 'the layers that use it in one stage',
				hint: 'cut elsewhere',
			});
		}
	});
}
