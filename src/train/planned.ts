/** @file What a run was planned from and how, kept in its folder, so that it can be walked again and compared with what is measured. */
import { writeJson } from '../io/json-file.ts';
import type { Cluster } from '../plan/cluster/types.ts';
import { planDocument } from '../plan/plan-json.ts';
import type { Profile } from '../plan/profile/types.ts';
import type { Plan } from '../plan/types.ts';
import type { RunFolder } from './run-folder.ts';

/** A plan with what it was made from. */
export interface Planned {
	readonly profile: Profile;
	readonly cluster: Cluster;
	readonly plan: Plan;
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
