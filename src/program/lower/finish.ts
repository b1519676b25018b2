/** @file What follows the last action: gradients are summed over the devices that hold a stage, their norm over all stages, and weights updated. */

import type { Action } from '../../plan/schedules/types.ts';
import type { BankLayout } from '../layout.ts';
import { normSquaredGraph } from '../stage.ts';
import { type DeviceId, deviceId, groupId, type Instruction, slotId } from '../types.ts';
import { flatSlot } from './banks.ts';
import type { Builds } from './builds.ts';
import type { Job, Stage } from './job.ts';
import type { Where } from './transfers.ts';

/** Which devices sum what, by name of the group. */
export type Groups = Readonly<Record<string, readonly DeviceId[]>>;

/** True when every rank has as many devices as the others: then one device of each makes a copy of the whole pipeline. */
function isEven({ replicas }: Job): boolean {
	return replicas.every((count) => count === replicas[0]);
}

/** The name of the group in which a device joins its part of the gradient's norm: its copy of the pipeline, or all devices. */
function normGroup(job: Job, { pipeline, i }: Where): string {
	return isEven(job) ? `copy${pipeline * job.replicas[0]! + i}` : 'all';
}

/** Groups of more than one device: those of a rank in all pipelines, and those that together hold all stages. */
export function groupsOf(job: Job): Groups {
	const { pipelines, schedule } = job.layout;
	const ranks = Array.from({ length: schedule.ranks }, (_, rank) =>
		Array.from({ length: pipelines }, (_, p) => job.devices(rank, p).map(deviceId)).flat(),
	);
	const groups: Record<string, readonly DeviceId[]> = {};
	ranks.forEach((devices, rank) => {
		if (devices.length > 1) groups[`rank${rank}`] = devices;
	});
	if (ranks.length === 1) return groups;
	if (!isEven(job)) return { ...groups, all: ranks.flat() };
	ranks[0]!.forEach((_, c) => {
		groups[`copy${c}`] = ranks.map((devices) => devices[c]!);
	});
	return groups;
}

/** Names of the vectors and numbers of the optimiser's step of a backbone. */
const hyperName = (scope: string) => `${scope}hyper`;
const normName = (scope: string) => `${scope}normSquared`;

/** Host sources of the optimiser's step. */
export function hyperSources({ scopes, layout }: Job): readonly string[] {
	return layout.hyperSize > 0 ? scopes.map(hyperName) : [];
}

/** Feeds before the first action. */
export function headOf(job: Job): Instruction[] {
	return hyperSources(job).map((name) => ({ op: 'feed', slot: slotId(name), source: name, from: 0, to: 0 }));
}

/** Sums the gradients of `stages` over the devices that hold them. */
export function sumOf({ rank }: Where, stages: readonly Stage[], banks: readonly BankLayout[], groups: Groups): Instruction[] {
	const name = `rank${rank}`;
	if (!groups[name] || stages.length === 0) return [];
	return [{ op: 'allReduce', group: groupId(name), slots: stages.map((stage) => flatSlot(banks[stage.number]!.bank)) }];
}

/**
 * Where gradients are summed before the rank's last action: the stages to sum after each, by its place in `actions`. A sum blocks its devices, so that it would
 * keep others waiting for what they are still to send. It goes where nothing is sent any more: what is left are backward passes of first stages, between which
 * the device waits for the other ranks, and weight gradients.
 */
export function earlySums(actions: readonly Action[], stages: readonly Stage[]): Map<number, Stage[]> {
	const lastSent = actions.findLastIndex(({ kind, stage }) => kind === 'F' || (kind !== 'W' && stages[stage]!.layers[0] > 0));
	const last = new Map<number, number>();
	actions.forEach(({ kind, stage }, at) => {
		if (kind !== 'F') last.set(stage, at);
	});
	const sums = new Map<number, Stage[]>();
	for (const [stage, own] of last) {
		const at = Math.max(own, lastSent);
		if (at < actions.length - 1) sums.set(at, [...(sums.get(at) ?? []), stages[stage]!]);
	}
	return sums;
}

/** Norms and updates of a device that holds `stages` (trained ones), and the sums of those that are not `summed` yet. */
export function tailOf(
	job: Job,
	builds: Builds,
	where: Where,
	stages: readonly Stage[],
	banks: readonly BankLayout[],
	groups: Groups,
	summed: ReadonlySet<number>,
): Instruction[] {
	const own = job.devices(where.rank, where.pipeline)[where.i]!;
	const out: Instruction[] = [];
	const flat = (stage: Stage) => flatSlot(banks[stage.number]!.bank);
	const unsummed = stages.filter((stage) => !summed.has(stage.number));
	out.push(...sumOf(where, unsummed, banks, groups));
	if (job.layout.hyperSize === 0) return out;
	const copies = groups.all ? job.layout.pipelines * job.replicas[where.rank]! : 1;
	const norms = job.scopes.map((scope) => slotId(normName(scope)));
	const of = (backbone: number) => stages.filter((stage) => stage.backbone === backbone);
	job.backbones.forEach((_, backbone) => {
		const sizes = of(backbone).map((stage) => banks[stage.number]!.trained);
		const graph = builds.add(`normSquared.${sizes.join('+')}${copies === 1 ? '' : `.${copies}`}`, () => normSquaredGraph(sizes, copies));
		out.push({ op: 'run', graph, inputs: of(backbone).map(flat), outputs: [norms[backbone]!], label: 'norm' });
	});
	const group = normGroup(job, where);
	if (groups[group]) out.push({ op: 'allReduce', group: groupId(group), slots: norms });
	job.scopes.forEach((scope, backbone) => {
		for (const stage of of(backbone)) {
			out.push({ op: 'update', bank: banks[stage.number]!.bank, hyper: slotId(hyperName(scope)), normSquared: norms[backbone]! });
		}
		if (own === 0) out.push({ op: 'fetch', slot: norms[backbone]!, name: normName(scope), from: 0 });
	});
	out.push({ op: 'drop', slots: [...norms, ...job.scopes.map((scope) => slotId(hyperName(scope)))] });
	return out;
}
