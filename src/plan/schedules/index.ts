/** @file The schedules by name. A new schedule is one new file and one line here. */
import { DiffusionPipeError, nearestName } from '../../core/errors.ts';
import { gpipe, placeGpipe } from './gpipe.ts';
import { placeInterleaved } from './interleaved.ts';
import { oneFOneB, placeOneFOneB } from './one-f-one-b.ts';
import type { PlacedSchedule, PlaceOptions, ScheduleGenerator } from './types.ts';

export const placedSchedules: Readonly<Record<string, (options: PlaceOptions) => PlacedSchedule>> = {
	gpipe: placeGpipe,
	'1f1b': placeOneFOneB,
	'interleaved-1f1b': placeInterleaved,
};

/** Those with one stage per rank and an undivided backward, which programs are lowered from, as rows alone. */
export const schedules: Readonly<Record<string, ScheduleGenerator>> = {
	gpipe,
	'1f1b': oneFOneB,
};

/**
 * The schedule called `name`: its stages on ranks and the rows of every rank. Throws a config error that lists the known names and the nearest one, an
 * input error naming the schedule when it cannot be made as `options` say.
 */
export function placeSchedule(name: string, options: PlaceOptions): PlacedSchedule {
	return byName(placedSchedules, name, 'schedule')(options);
}

/** The generator called `name`; throws a config error that lists the known names and the nearest one. `place` says where the name stands. */
export function scheduleByName(name: string, place = 'schedule'): ScheduleGenerator {
	return byName(schedules, name, place);
}

function byName<T>(table: Readonly<Record<string, T>>, name: string, place: string): T {
	const known = Object.keys(table);
	const found = Object.hasOwn(table, name) ? table[name] : undefined;
	if (found !== undefined) return found;
	const nearest = nearestName(name, known);
	throw new DiffusionPipeError('config', 'unknown schedule', {
		place,
		expected: `one of ${known.join(', ')}`,
		found: name,
		...(nearest === undefined ? {} : { hint: nearest }),
	});
}
