/** @file Small training jobs: profiles and clusters that are planned in milliseconds. */
import type { Cluster } from '../../src/plan/cluster/types.ts';
import type { Backbone, FrozenComponent, Profile } from '../../src/plan/profile/types.ts';

const batchSizes = [1, 2, 4, 8];
/** Grows a little slower than the batch, as on real devices. */
const times = (ms: number) => batchSizes.map((n) => ms * (0.2 + 0.8 * n));

export function sampleBackbone(layers = 8, name = 'unet'): Backbone {
	return {
		name,
		selfConditioning: 0,
		layers: Array.from({ length: layers }, (_, i) => ({
			name: `block.${i}`,
			forwardMs: times(1 + (i % 3) / 4),
			backwardInputMs: times(1 + (i % 3) / 4),
			backwardWeightMs: times(0.9),
			cutBytes: i + 1 < layers ? 1e6 : 0,
			activationBytes: 2e7,
			paramBytes: 1e8,
			gradBytes: 1e8,
			updateMs: 0.1,
		})),
	};
}

export function sampleProfile(change: Partial<Profile> = {}): Profile {
	const frozen: FrozenComponent[] = [
		{
			name: 'vae',
			after: [],
			layers: [0, 1, 2].map((i) => ({ name: `down.${i}`, forwardMs: times(0.6), outputBytes: 5e5, paramBytes: 1e7 })),
		},
		{ name: 'text', after: ['vae'], layers: [{ name: 'layer.0', forwardMs: times(0.3), outputBytes: 1e4, paramBytes: 1e7 }] },
	];
	return { version: 1, name: 'sample', batchSizes, backbones: [sampleBackbone()], frozen, ...change };
}

export const sampleCluster: Cluster = {
	version: 1,
	hosts: 1,
	devicesPerHost: 4,
	memoryBytes: 16e9,
	intra: { latencyMs: 0.01, bytesPerMs: 2e7 },
	inter: { latencyMs: 0.03, bytesPerMs: 5e6 },
};
