/** @file What of an earlier start of a cascade holds for the layout that it has now: its plan, its profile, its cuts. */
import type { Chain } from '../../nn/chain.ts';
import type { Profile } from '../../plan/profile/types.ts';
import type { RunParts } from '../filled/parts.ts';
import { profiledSizes } from '../filled/plan.ts';
import { replicasOf } from '../layout.ts';
import { deviceCount, measuredSizes } from '../plan.ts';
import type { Planned } from '../planned.ts';
import type { SessionConfig } from '../session.ts';
import { backboneNames, type PerBackbone, perBackbone } from './config.ts';

/** Cuts that need no measurement: none, those that the config gives, those of the run resumed. */
export function fixedCuts(
	config: PerBackbone<SessionConfig>,
	known: PerBackbone<readonly number[]> | undefined,
): PerBackbone<readonly number[]> | undefined {
	const { parallel: p } = config.base;
	if (p.pipeline_stages === 1) return perBackbone(() => []);
	if (p.partition_method === 'manual') return perBackbone((name) => config[name].parallel.partition_split!);
	return known?.base.length === p.pipeline_stages - 1 ? known : undefined;
}

/** True when a run's plan is one of this layout, for these chains and frozen parts. */
export function fits(
	{ plan, profile, cluster }: Planned,
	chains: PerBackbone<Chain>,
	config: PerBackbone<SessionConfig>,
	parts: RunParts | undefined,
	cuts: PerBackbone<readonly number[]>,
): boolean {
	const { parallel: p, train: t } = config.base;
	const cutsOf = (name: string) =>
		plan.stages
			.filter(({ backbone }) => backbone === name)
			.slice(1)
			.map(({ layers }) => layers[0]);
	const wanted = p.partition_method === 'manual' ? fixedCuts(config, undefined)! : cuts;
	const replicas = replicasOf(p);
	return (
		plan.schedule === p.pipeline_schedule &&
		plan.ranks === p.pipeline_stages &&
		plan.pipelines === p.data_parallel &&
		plan.microBatches === t.gradient_accumulation_steps &&
		plan.batch === t.batch_size &&
		(p.activation_checkpointing === 'auto' || plan.recompute === (p.activation_checkpointing === 'full')) &&
		plan.stages.every((stage) => stage.replicas === replicas[stage.rank]) &&
		cluster.hosts * cluster.devicesPerHost === deviceCount(config.base) &&
		isOf(profile, chains, parts?.parts ?? []) &&
		backboneNames.every((name) => cutsOf(name).join() === wanted[name].join())
	);
}

/** True when a profile is one of these chains and frozen parts. */
function isOf({ backbones, frozen }: Profile, chains: PerBackbone<Chain>, parts: RunParts['parts']): boolean {
	const names = (layers: readonly { readonly name: string }[]) => layers.map(({ name }) => name);
	const found = [backbones.map(({ name, layers }) => [name, names(layers)]), frozen.map(({ name, layers }) => [name, names(layers)])];
	const wanted = [
		backboneNames.map((name) => [name, names(chains[name].layers)]),
		parts.map(({ name, chain }) => [name, names(chain.layers)]),
	];
	return JSON.stringify(found) === JSON.stringify(wanted);
}

/** What of an earlier start's profile serves another layout: that of these chains, at the sizes of batches that it takes, with the frozen parts to be filled in. */
export function knownProfile(
	known: Profile,
	chains: PerBackbone<Chain>,
	config: SessionConfig,
	parts: RunParts | undefined,
): Profile | undefined {
	const profile = parts ? known : { ...known, frozen: [] };
	return isOf(profile, chains, parts?.parts ?? []) && sizesOf(config, parts).every((size) => known.batchSizes.includes(size))
		? profile
		: undefined;
}

/** Batch sizes that a profile is measured at. */
export function sizesOf(config: SessionConfig, parts: RunParts | undefined): number[] {
	return parts ? profiledSizes(config) : measuredSizes(config);
}
