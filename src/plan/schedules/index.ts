/** @file The schedules by name. A new schedule is one new file and one line here. */
import { DiffusionPipeError, nearestName } from '../../core/errors.ts';
import { bidirectional } from './bidirectional.ts';
import { gpipe, placedGpipe } from './gpipe.ts';
import { interleaved } from './interleaved.ts';
import { oneFOneB, placedOneFOneB } from './one-f-one-b.ts';
import { checkCosts } from './options.ts';
import { addSweeps, withSweeps } from './self-conditioning.ts';
import type { PlacedSchedule, PlaceOptions, ScheduleGenerator, ScheduleKind, Topology } from './types.ts';
import { zeroBubble } from './zero-bubble.ts';

export const scheduleKinds: Readonly<Record<string, ScheduleKind>> = {
	gpipe: placedGpipe,
	'1f1b': placedOneFOneB,
	'interleaved-1f1b': interleaved,
	'zero-bubble': zeroBubble,
	bidirectional,
};

/** Those with one stage per rank and an undivided backward, as rows alone. */
export const schedules: Readonly<Record<string, ScheduleGenerator>> = {
	gpipe,
	'1f1b': oneFOneB,
};

/**
 * The stages of the schedule called `name` on ranks, whose costs `placeSchedule` asks for. Throws a config error that lists the known names and the
 * nearest one (`place` says where the name stands), an input error naming the schedule when it cannot be made as `options` say.
 */
export function placeStages(name: string, options: PlaceOptions, place = 'schedule'): Topology {
	return sweptStages(byName(scheduleKinds, name, place).topology(options), options).topology;
}

/** The schedule called `name`: its stages on ranks and the rows of every rank. Throws what `placeStages` throws, and an input error naming bad costs. */
export function placeSchedule(name: string, options: PlaceOptions, place = 'schedule'): PlacedSchedule {
	const kind = byName(scheduleKinds, name, place);
	const bare = kind.topology(options);
	const swept = sweptStages(bare, options);
	const { topology, stageOf } = swept;
	const { costs } = options;
	if (costs) checkCosts(name, topology, costs);
	if (topology.stages.length === bare.stages.length) return { ...bare, rows: kind.rows(bare, options) };
	const rows = kind.rows(bare, costs ? { ...options, costs: { ...costs, stages: stageOf.map((stage) => costs.stages[stage]!) } } : options);
	return { ...topology, rows: addSweeps(swept, rows, options) };
}

function sweptStages(topology: Topology, { selfConditioning = false }: PlaceOptions) {
	return withSweeps(topology, (chain) => (typeof selfConditioning === 'boolean' ? selfConditioning : (selfConditioning[chain] ?? false)));
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
