import { describe, expect, it } from 'vitest';
import { readCluster } from '../../../src/plan/cluster/read.ts';

const cluster = {
	version: 1,
	hosts: 2,
	devicesPerHost: 8,
	memoryBytes: 80e9,
	intra: { latencyMs: 0.01, bytesPerMs: 3e8 },
	inter: { latencyMs: 0.03, bytesPerMs: 5e7 },
};

describe('readCluster', () => {
	it('gives what it reads', () => {
		expect(readCluster(JSON.parse(JSON.stringify(cluster)))).toEqual(cluster);
	});

	it.each<[string, unknown, string]>([
		['hosts that are no count', { ...cluster, hosts: 0 }, 'c.json: hosts: has a wrong value\n  expected: a number from 1\n  found: 0'],
		[
			'half a device',
			{ ...cluster, devicesPerHost: 1.5 },
			'c.json: devicesPerHost: has a wrong value\n  expected: a whole number\n  found: 1.5',
		],
		['no memory', { ...cluster, memoryBytes: 0 }, 'c.json: memoryBytes: has a wrong value\n  expected: a number above 0\n  found: 0'],
		[
			'a link that moves nothing',
			{ ...cluster, inter: { latencyMs: 0, bytesPerMs: 0 } },
			'c.json: inter.bytesPerMs: has a wrong value\n  expected: a number above 0\n  found: 0',
		],
		[
			'a negative latency',
			{ ...cluster, intra: { latencyMs: -1, bytesPerMs: 1 } },
			'c.json: intra.latencyMs: has a wrong value\n  expected: a number from 0\n  found: -1',
		],
		[
			'a key it does not know',
			{ ...cluster, intra: { latency: 0, bytesPerMs: 1 } },
			'c.json: intra: latencyMs is missing\n  try: is latency meant to be it?',
		],
		[
			'a version to come',
			{ ...cluster, version: '1' },
			'c.json: version: is a cluster of a version that is not known\n  expected: 1\n  found: "1"',
		],
	])('refuses %s', (_, raw, message) => {
		expect(() => readCluster(raw, 'c.json')).toThrow(message);
	});
});
