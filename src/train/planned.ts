/** @file What a run was planned from and how, kept in its folder, so that it can be walked again and compared with what is measured. */
import { readJson, writeJson } from '../io/json-file.ts';
import type { Chain } from '../nn/chain.ts';
import type { Cluster } from '../plan/cluster/types.ts';
import { planDocument } from '../plan/plan-json.ts';
import { readProfile } from '../plan/profile/read.ts';
import type { Profile } from '../plan/profile/types.ts';
import type { Plan } from '../plan/types.ts';
import { pipelineDevices } from '../program/plan-timeline.ts';
import type { Program } from '../program/types.ts';
import { type VerifiedDevice, verifyProgram } from '../program/verify.ts';
import type { RunFolder } from './run-folder.ts';

/** A plan with what it was made from. */
export interface Planned {
	readonly profile: Profile;
	readonly cluster: Cluster;
	readonly plan: Plan;
}

/** The most that each device of `program` holds, of that its banks, as the verifier counts it, over all kinds of iteration. */
export function peaksOf(program: Program): readonly Pick<VerifiedDevice, 'device' | 'fixedBytes' | 'peakBytes'>[] {
	return verifyProgram(program).devices.map(({ device, fixedBytes, peakBytes }) => ({ device, fixedBytes, peakBytes }));
}

/**
 * `plan` with the peaks of `program`, which was lowered from it, in place of those that the planner estimates from layers: what the verifier counts and
 * `compare` shows, workspaces of graphs and frozen outputs among it.
 */
export function withPeaks(plan: Plan, program: Program): Plan {
	const peaks = new Map<number, number>(peaksOf(program).map(({ device, peakBytes }) => [device, peakBytes]));
	return { ...plan, peakBytes: pipelineDevices(plan).map(({ device }) => peaks.get(device)!) };
}

/**
 * The profile in `path`, of an earlier start of a run; undefined when it is not there or not whole, or is of other layers or batch sizes than `chain`, its
 * frozen parts and the run as it is now.
 */
export async function knownProfile(
	path: string,
	chain: Chain,
	batchSizes: readonly number[],
	parts: readonly { readonly name: string; readonly chain: Chain }[] = [],
): Promise<Profile | undefined> {
	let profile: Profile;
	try {
		profile = readProfile(await readJson(path), path);
	} catch {
		return undefined;
	}
	const names = (layers: readonly { readonly name: string }[]) => layers.map(({ name }) => name);
	const { backbones, frozen } = profile;
	const found = [profile.batchSizes, backbones.map(({ layers }) => names(layers)), frozen.map(({ name, layers }) => [name, names(layers)])];
	const wanted = [batchSizes, [names(chain.layers)], parts.map((part) => [part.name, names(part.chain.layers)])];
	return JSON.stringify(found) === JSON.stringify(wanted) ? profile : undefined;
}

/** Writes profile.json, cluster.json and plan.json. */
export async function writePlanned(folder: RunFolder, { profile, cluster, plan }: Planned): Promise<void> {
	await writeJson(folder.profile, profile);
	await writeJson(folder.cluster, cluster);
	await writeJson(folder.plan, planDocument(plan));
}

/** Devices of this machine as a cluster: a send hands a pointer over, a sum reads and writes memory. */
export function localCluster(devices: number, memoryBytes: number): Cluster {
	return {
		version: 1,
		hosts: 1,
		devicesPerHost: devices,
		memoryBytes: memoryBytes > 0 ? memoryBytes : 1e15,
		intra: { latencyMs: 0.05, bytesPerMs: 2e6 },
		inter: { latencyMs: 0.05, bytesPerMs: 2e6 },
	};
}
