/** @file Refusing what a schedule cannot be made from, with the schedule's name and what to do instead. */
import { DiffusionPipeError } from '../../core/errors.ts';
import type { PlaceOptions, ScheduleCosts, ScheduleOptions, StageCosts, Topology } from './types.ts';

/** Throws an input error unless both counts are whole numbers from 1. */
export function checkScheduleOptions(name: string, { stages, microBatches }: ScheduleOptions): void {
	checkCounts(name, { stages, microBatches });
}

/** Throws an input error naming the count unless all are whole numbers from 1. */
export function checkCounts(name: string, counts: Readonly<Record<string, number>>): void {
	for (const [what, count] of Object.entries(counts)) {
		if (!Number.isSafeInteger(count) || count < 1) {
			throw new DiffusionPipeError('input', `bad number of ${what}`, {
				place: `schedule ${name}`,
				expected: 'a whole number from 1',
				found: String(count),
			});
		}
	}
}

/**
 * Throws an input error naming the option unless the counts are whole numbers from 1 and the schedule can be placed as asked: `can` holds the placements
 * and the number of backbones that it knows.
 */
export function checkPlaceOptions(name: string, options: PlaceOptions, can: { readonly folded?: true; readonly backbones?: 2 } = {}): void {
	const { ranks, microBatches, chunks = 2, placement = 'linear', backbones = can.backbones ?? 1 } = options;
	checkCounts(name, { ranks, microBatches, chunks, backbones });
	if (placement !== 'linear' && !(placement === 'folded' && can.folded)) {
		refuse(name, 'another placement', can.folded ? 'linear or folded' : 'linear', String(placement));
	}
	const wanted = can.backbones ?? 1;
	if (wanted === 1 ? backbones !== 1 : !(backbones >= wanted)) {
		const hint = wanted === 2 ? '1f1b or zero-bubble for one backbone' : 'bidirectional for two backbones';
		refuse(name, 'another number of backbones', wanted === 1 ? '1' : `${wanted} or more`, String(backbones), hint);
	}
}

const costNames: readonly (keyof StageCosts)[] = [
	'forwardMs',
	'backwardInputMs',
	'backwardWeightMs',
	'hopForwardMs',
	'hopBackwardMs',
	'savedBytes',
];

/** Throws an input error naming the number unless there is one set of costs per stage and one limit per rank, all numbers from 0. */
export function checkCosts(name: string, { ranks, stages }: Topology, costs: ScheduleCosts): void {
	if (costs.stages.length !== stages.length) {
		refuse(name, 'costs of other stages', `costs of ${stages.length} stages`, `costs of ${costs.stages.length}`);
	}
	for (const [i, stage] of costs.stages.entries()) {
		for (const key of costNames) {
			if (!(stage[key] >= 0 && stage[key] < Number.POSITIVE_INFINITY))
				refuse(name, `bad cost of stage ${i}`, `a ${key} from 0`, String(stage[key]));
		}
	}
	const { limitBytes } = costs;
	if (limitBytes && limitBytes.length !== ranks) refuse(name, 'limits of other ranks', `${ranks} limits`, `${limitBytes.length}`);
}

/** Throws an input error naming the schedule. */
export function refuse(name: string, what: string, expected: string, found: string, hint?: string): never {
	throw new DiffusionPipeError('input', what, { place: `schedule ${name}`, expected, found, ...(hint === undefined ? {} : { hint }) });
}
