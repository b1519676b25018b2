/** @file A training job as the search sees it: profile, cluster and batch, with sums and places kept from one candidate to the next. */
import { cached } from '../../core/cached.ts';
import { type Places, placesOf } from '../cluster/places.ts';
import type { Cluster } from '../cluster/types.ts';
import { type BackboneCosts, backboneCosts } from '../partition/costs.ts';
import type { Profile } from '../profile/types.ts';
import type { Layout } from '../types.ts';

export interface Job {
	readonly profile: Profile;
	readonly cluster: Cluster;
	/** Samples of one iteration over all devices. */
	readonly batch: number;
	costs(backbone: number, recompute: boolean): BackboneCosts;
	places(layout: Layout, pipelines: number, devices: number): Places;
}

/** A job with empty caches. */
export function createJob(profile: Profile, cluster: Cluster, batch: number): Job {
	const costs = new Map<string, BackboneCosts>();
	const places = new Map<string, Places>();
	return {
		profile,
		cluster,
		batch,
		costs: (backbone, recompute) =>
			cached(costs, `${backbone} ${recompute}`, () => backboneCosts(profile, profile.backbones[backbone]!, recompute)),
		places: (layout, pipelines, devices) =>
			cached(places, `${layout} ${pipelines} ${devices}`, () => placesOf(cluster, layout, pipelines, devices)),
	};
}
