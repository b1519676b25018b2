/** @file The schedules by name. A new schedule is one new file and one line here. */
import { DiffusionPipeError, nearestName } from '../../core/errors.ts';
import { gpipe } from './gpipe.ts';
import { oneFOneB } from './one-f-one-b.ts';
import type { ScheduleGenerator } from './types.ts';

export const schedules: Readonly<Record<string, ScheduleGenerator>> = {
	gpipe,
	'1f1b': oneFOneB,
};

/** The generator called `name`; throws a config error that lists the known names and the nearest one. `place` says where the name stands. */
export function scheduleByName(name: string, place = 'schedule'): ScheduleGenerator {
	const known = Object.keys(schedules);
	const generator = Object.hasOwn(schedules, name) ? schedules[name] : undefined;
	if (generator) return generator;
	const nearest = nearestName(name, known);
	throw new DiffusionPipeError('config', 'unknown schedule', {
		place,
		expected: `one of ${known.join(', ')}`,
		found: name,
		...(nearest === undefined ? {} : { hint: nearest }),
	});
}
