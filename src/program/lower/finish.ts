/** @file What follows the last action: gradients are summed over the devices that hold a stage, their norm over all stages, and weights updated. */
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

/** Sums, norms and updates of a device that holds `stages` (trained ones). */
export function tailOf(
	job: Job,
	builds: Builds,
	where: Where,
	stages: readonly Stage[],
	banks: readonly BankLayout[],
	groups: Groups,
): Instruction[] {
	const own = job.devices(where.rank, where.pipeline)[where.i]!;
	const out: Instruction[] = [];
	const flat = (stage: Stage) => flatSlot(banks[stage.number]!.bank);
	const rank = `rank${where.rank}`;
	if (groups[rank]) out.push({ op: 'allReduce', group: groupId(rank), slots: stages.map(flat) });
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
