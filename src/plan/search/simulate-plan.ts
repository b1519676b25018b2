/** @file A plan walked again: with the profile and cluster it was made for, or with others, to see what a slower link or a faster layer would change. */

import { DiffusionPipeError } from '../../core/errors.ts';
import { deviceCountOf } from '../cluster/links.ts';
import type { Cluster } from '../cluster/types.ts';
import { plainIterationMs } from '../expected.ts';
import type { FillResult } from '../fill/types.ts';
import { simulatePipeline } from '../pipeline/simulate.ts';
import type { Profile } from '../profile/types.ts';
import type { Plan } from '../types.ts';
import { candidateOf, fillCandidate } from './candidate.ts';
import { createJob } from './job.ts';
import { pipelineOf, rankPlaces } from './pipeline.ts';
import { planOf, sweepOf } from './result.ts';
import type { Assignment, Shape } from './shape.ts';
import type { PlanAnswer } from './types.ts';

/**
 * What `plan` takes on `cluster` with the costs of `profile`: its cuts, devices, schedule and micro-batches stay, its bubbles are filled again, since they
 * lie elsewhere when costs change. `effort` as in the search. Throws an input error when plan and profile do not fit together, naming the backbone.
 */
export function simulatePlan(plan: Plan, profile: Profile, cluster: Cluster, effort = 1): PlanAnswer {
	const { shape, assignment } = checked(plan, profile, cluster);
	const job = createJob(profile, cluster, plan.batch);
	const timeline = simulatePipeline(pipelineOf(job, shape, assignment));
	const fill = plan.fill.length > 0 || plan.frozenMs === 0;
	const candidate = candidateOf(job, { shape, assignment, timeline, lowerBoundMs: timeline.endMs, proven: false }, fill);
	const filled = fillCandidate(job, candidate, fill, effort);
	if (!filled) {
		throw new DiffusionPipeError('input', 'frozen weights do not fit beside the pipeline', {
			place: `plan of ${plan.profile}`,
			expected: `room on a device of ${cluster.memoryBytes} bytes`,
			found: `${Math.max(...timeline.peakBytes)} bytes in use by the pipeline`,
			reason: 'memory',
		});
	}
	return { plan: planOf(job, filled, plan.baselines), timeline, fill: filled.fill, ...sweepOf(filled) };
}

/**
 * The iteration that `plan` predicts, as it stands: its pipeline walked with the costs of `profile`, its own filling in it. Throws an input error when plan
 * and profile do not fit together, naming the backbone.
 */
export function walkPlan(plan: Plan, profile: Profile, cluster: Cluster): PlanAnswer {
	const { shape, assignment } = checked(plan, profile, cluster);
	const job = createJob(profile, cluster, plan.batch);
	const places = job.places(shape.layout, shape.pipelines, shape.devices);
	// The plan numbers the devices of all pipelines; a timeline those of one.
	const within = new Map(
		rankPlaces(assignment.replicas)
			.flatMap((place) => places.devices(place, 0))
			.map((device, i) => [device, i]),
	);
	const spread = (filling: Pick<Plan, 'fill' | 'moves' | 'iterationMs'>): FillResult => {
		const items = filling.fill.flatMap((item) => {
			const device = within.get(item.device);
			return device === undefined ? [] : [{ ...item, device }];
		});
		const moves = filling.moves.flatMap((move) => {
			const [from, to] = [within.get(move.from), within.get(move.to)];
			return from === undefined || to === undefined ? [] : [{ ...move, from, to }];
		});
		const { iterationMs } = filling;
		const lowerBoundMs = Math.min(plan.lowerBoundMs, iterationMs);
		return { items, moves, iterationMs, lowerBoundMs, method: items.length > 0 ? 'as planned' : 'none' };
	};
	const walked = (sweep: boolean) => simulatePipeline(pipelineOf(job, shape, assignment, sweep));
	const swept = plan.selfConditioning;
	return {
		plan,
		timeline: walked(false),
		fill: spread({ ...plan, iterationMs: plainIterationMs(plan) }),
		...(swept ? { sweep: { timeline: walked(true), fill: spread(swept) } } : {}),
	};
}

function checked(plan: Plan, profile: Profile, cluster: Cluster): { shape: Shape; assignment: Assignment } {
	const fail = (what: string, place: string, expected: string, found: string): never => {
		throw new DiffusionPipeError('input', what, { place: `plan of ${plan.profile}, ${place}`, expected, found });
	};
	const devices = deviceCountOf(cluster);
	if (devices !== plan.devices) fail('another cluster', 'devices', String(plan.devices), `a cluster of ${devices}`);
	const bounds = profile.backbones.map(({ name, layers }) => {
		const stages = plan.stages.filter((stage) => stage.backbone === name);
		const cuts = [0, ...stages.map((stage) => stage.layers[1])];
		const joined = stages.length > 0 && stages.every((stage, i) => stage.layers[0] === cuts[i] && stage.layers[1] > stage.layers[0]);
		if (!joined || cuts.at(-1) !== layers.length) {
			const found = stages.map((stage) => `[${stage.layers.join(', ')})`).join(' ');
			fail('the stages are not those of the profile', `stages of ${name}`, `ranges that join from 0 to ${layers.length}`, found || 'none');
		}
		return cuts;
	});
	const replicas = Array.from({ length: plan.ranks }, (_, rank) => plan.stages.find((stage) => stage.rank === rank)?.replicas ?? 0);
	const perPipeline = replicas.reduce((a, b) => a + b, 0);
	if (replicas.includes(0) || perPipeline * plan.pipelines !== devices)
		fail('the replicas do not add up', 'stages', `${devices / plan.pipelines} devices per pipeline`, replicas.join(' + '));
	const { schedule, warmup, placement, layout, recompute, pipelines, ranks, microBatches } = plan;
	const chunks = (bounds[0]!.length - 1) / ranks;
	return {
		shape: { schedule, warmup, placement, layout, recompute, pipelines, devices: perPipeline, ranks, chunks, microBatches },
		assignment: { bounds, replicas },
	};
}
