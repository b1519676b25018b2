/** @file From options to what a search leaves fixed. */
import { DiffusionPipeError, nearestName } from '../../core/errors.ts';
import { scheduleKinds } from '../../plan/schedules/index.ts';
import type { SearchOptions } from '../../plan/search/types.ts';
import type { OptionValues } from '../command.ts';
import type { shapeOptions } from './job-options.ts';

type Given = OptionValues<typeof shapeOptions>;

/** The options that are given. Throws a usage error for a word that is none of its choices. */
export function givenShape(given: Given): SearchOptions {
	const { stages, microBatches, pipelines, recompute, fill, effort } = given;
	const all = {
		...{ stages, microBatches, pipelines, recompute, fill, effort },
		schedule: choice('--schedule', given.schedule, Object.keys(scheduleKinds)),
		warmup: choice('--warmup', given.warmup, ['usual', 'deep']),
		placement: choice('--placement', given.placement, ['linear', 'folded']),
		layout: choice('--layout', given.layout, ['pipelines', 'copies']),
	};
	return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined));
}

function choice<T extends string>(place: string, given: string | undefined, choices: readonly T[]): T | undefined {
	if (given === undefined) return undefined;
	const found = choices.find((name) => name === given);
	if (found !== undefined) return found;
	const near = nearestName(given, choices);
	throw new DiffusionPipeError('usage', 'is none of its choices', {
		place,
		expected: choices.join(', '),
		found: given,
		...(near === undefined ? {} : { hint: `${place} ${near}` }),
	});
}
