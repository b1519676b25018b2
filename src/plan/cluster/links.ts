/** @file What moving bytes costs on a cluster: one message, and the sum over a group of devices. */
import type { Cluster } from './types.ts';

/** Devices of the whole cluster; device d stands on host floor(d / devicesPerHost). */
export function deviceCountOf({ hosts, devicesPerHost }: Cluster): number {
	return hosts * devicesPerHost;
}

/** ms for `bytes` from device `from` to device `to`; nothing between a device and itself, latency alone for no bytes. */
export function transferMs(cluster: Cluster, bytes: number, from: number, to: number): number {
	if (from === to) return 0;
	const { latencyMs, bytesPerMs } = hostOf(cluster, from) === hostOf(cluster, to) ? cluster.intra : cluster.inter;
	return latencyMs + bytes / bytesPerMs;
}

/**
 * ms to sum `bytes` over `devices`. On one host a ring, 2 (n-1)/n of the bytes over the link (Patarasuk and Yuan 2009). Over several hosts hierarchical:
 * reduce-scatter within each host, a ring over the hosts for each of the g members per host on its g-th part, all-gather within each host. All devices
 * of a host share its inter-host link, and other groups are taken to be as busy, so a group has g / devicesPerHost of it. One latency per phase.
 */
export function allReduceMs(cluster: Cluster, bytes: number, devices: readonly number[]): number {
	if (devices.length < 2 || bytes === 0) return 0;
	const perHost = new Map<number, number>();
	for (const device of devices) perHost.set(hostOf(cluster, device), (perHost.get(hostOf(cluster, device)) ?? 0) + 1);
	const hosts = perHost.size;
	const local = Math.max(...perHost.values());
	const { intra, inter, devicesPerHost } = cluster;
	const within = local > 1 ? intra.latencyMs + (2 * ((local - 1) / local) * bytes) / intra.bytesPerMs : 0;
	if (hosts === 1) return within;
	const share = inter.bytesPerMs * (Math.min(...perHost.values()) / devicesPerHost);
	return within + inter.latencyMs + (2 * ((hosts - 1) / hosts) * bytes) / share;
}

function hostOf({ devicesPerHost }: Cluster, device: number): number {
	return Math.floor(device / devicesPerHost);
}
