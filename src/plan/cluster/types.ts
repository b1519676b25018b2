/** @file A cluster, version 1: hosts of equal devices and the links between them, as plain data. */

/** n bytes take latencyMs + n / bytesPerMs; one transfer at a time per direction of a pair of devices. */
export interface Link {
	readonly latencyMs: number;
	readonly bytesPerMs: number;
}

export interface Cluster {
	readonly version: 1;
	readonly hosts: number;
	readonly devicesPerHost: number;
	/** Of one device. */
	readonly memoryBytes: number;
	/** Between devices of one host, and of two; `inter` is also what a host's devices share in collectives. */
	readonly intra: Link;
	readonly inter: Link;
}
