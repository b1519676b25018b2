/** @file From options to a cluster: a file, hosts of a named accelerator, or so many devices. */
import { resolve } from 'node:path';
import { DiffusionPipeError } from '../../core/errors.ts';
import { readJson } from '../../io/json-file.ts';
import { acceleratorByName } from '../../plan/analytic/accelerators.ts';
import { clusterOf } from '../../plan/analytic/profile.ts';
import { readCluster } from '../../plan/cluster/read.ts';
import type { Cluster } from '../../plan/cluster/types.ts';
import { flagOf, type OptionValues } from '../command.ts';
import type { jobOptions } from './job-options.ts';

type Given = Pick<OptionValues<typeof jobOptions>, 'cluster' | 'accelerator' | 'hosts' | 'devicesPerHost' | 'devices' | 'interGbps'>;

/** Published hosts of accelerators have eight; 400 Gbit/s is what clouds give them. */
const usual = { devicesPerHost: 8, interGbps: 400 };

/**
 * The cluster that the options name, or undefined when none of them is given. `alone` makes it where only a number of devices is. Throws a usage error for options that contradict each other or an unknown
 * accelerator, an input error naming file and field for a bad cluster.
 */
export async function givenCluster(given: Given, cwd: string, alone: (devices: number) => Cluster): Promise<Cluster | undefined> {
	const { cluster, accelerator, hosts, devicesPerHost, devices, interGbps } = given;
	if (cluster !== undefined) {
		for (const key of ['hosts', 'devicesPerHost', 'devices', 'interGbps'] as const) {
			if (given[key] !== undefined) throw conflict(flagOf(key), '--cluster, whose file says it');
		}
		return readCluster(await readJson(resolve(cwd, cluster)), cluster);
	}
	if (accelerator !== undefined) {
		const perHost = devicesPerHost ?? (devices === undefined ? usual.devicesPerHost : devices / (hosts ?? 1));
		const count = hosts ?? (devices === undefined ? 1 : devices / perHost);
		if (!Number.isInteger(perHost) || !Number.isInteger(count) || (devices !== undefined && count * perHost !== devices)) {
			throw new DiffusionPipeError('usage', 'cannot be divided so', {
				place: '--devices',
				expected: 'hosts x devices per host',
				found: `${devices} devices, ${hosts ?? 'any number of'} hosts, ${devicesPerHost ?? 'any number'} in each`,
			});
		}
		const gbps = interGbps ?? usual.interGbps;
		if (gbps === 0) throw new DiffusionPipeError('usage', 'is no network', { place: '--inter-gbps', expected: 'more than 0', found: '0' });
		return clusterOf(acceleratorByName(accelerator), count, perHost, gbps);
	}
	for (const key of ['hosts', 'devicesPerHost', 'interGbps'] as const) {
		if (given[key] === undefined) continue;
		throw new DiffusionPipeError('usage', 'says nothing without an accelerator', {
			place: flagOf(key),
			hint: `${flagOf(key)} ${given[key]} --accelerator A100-80`,
		});
	}
	return devices === undefined ? undefined : alone(devices);
}

/** `devices` devices without a limit of memory, on links that carry anything at once. */
export function idealCluster(devices: number): Cluster {
	const free = { latencyMs: 0, bytesPerMs: Number.MAX_VALUE };
	return { version: 1, hosts: 1, devicesPerHost: devices, memoryBytes: Number.MAX_VALUE, intra: free, inter: free };
}

function conflict(flag: string, other: string): DiffusionPipeError {
	return new DiffusionPipeError('usage', `cannot be given beside ${other}`, { place: flag });
}
