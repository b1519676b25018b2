/** @file The rules that every schedule obeys, checked without knowing which generator made it. */
import { DiffusionPipeError } from '../../core/errors.ts';
import { slotsOf } from './slots.ts';
import { formatAction } from './text.ts';
import type { Action, Schedule, ScheduleOptions } from './types.ts';

/**
 * Returns `schedule`, or throws an input error naming rank and action, unless each of S stages runs each of M micro-batches exactly once, forward and
 * backward (B, or I and W) on one rank, each forward before its backward, I before W, and the rows fit together in some order of time.
 */
export function validateSchedule(schedule: Schedule, { stages, microBatches }: Pick<ScheduleOptions, 'stages' | 'microBatches'>): Schedule {
	const seen = new Map<string, { rank: number; index: number }>();
	const at = (kind: Action['kind'], { stage, micro }: Action) => seen.get(formatAction({ stage, kind, micro }));
	schedule.forEach((row, rank) => {
		row.forEach((action, index) => {
			const fail = (what: string, expected: string, found: string): never => {
				throw new DiffusionPipeError('input', what, {
					place: `schedule, rank ${rank}, action ${index} (${formatAction(action)})`,
					expected,
					found,
				});
			};
			if (!isIndex(action.stage, stages)) fail('unknown stage', `a stage below ${stages}`, String(action.stage));
			if (!isIndex(action.micro, microBatches)) fail('unknown micro-batch', `a micro-batch below ${microBatches}`, String(action.micro));
			const before = at(action.kind, action);
			if (before) fail('runs twice', 'each micro-batch once per stage', `also rank ${before.rank}, action ${before.index}`);
			const needed = action.kind === 'F' ? undefined : action.kind === 'W' ? 'I' : 'F';
			const elsewhere =
				needed && (at(needed, action) ?? fail('runs too early', `${needed} of the micro-batch before it`, 'none on this rank before it'));
			if (elsewhere && elsewhere.rank !== rank)
				fail('runs on another rank', `rank ${elsewhere.rank}, where its ${needed} runs`, `rank ${rank}`);
			const rival = action.kind === 'B' ? 'I' : action.kind === 'I' ? 'B' : undefined;
			if (rival && at(rival, action)) fail('runs twice', 'one backward: B alone, or I and W', `${rival} as well`);
			seen.set(formatAction(action), { rank, index });
		});
	});
	for (let stage = 0; stage < stages; stage++) {
		for (let micro = 0; micro < microBatches; micro++) {
			const has = (kind: Action['kind']) => seen.has(`${stage}${kind}${micro}`);
			const missing = !has('F') ? 'F' : has('I') && !has('W') ? 'W' : !has('B') && !has('I') ? 'B' : undefined;
			if (missing === undefined) continue;
			const rank = at('F', { stage, kind: 'F', micro })?.rank ?? schedule.findIndex((row) => row.some((action) => action.stage === stage));
			throw new DiffusionPipeError('input', 'an action is missing', {
				place: rank < 0 ? 'schedule' : `schedule, rank ${rank}`,
				expected: `each of ${stages} stages running each of ${microBatches} micro-batches`,
				found: `no ${stage}${missing}${micro}`,
			});
		}
	}
	slotsOf(schedule);
	return schedule;
}

function isIndex(n: number, count: number): boolean {
	return Number.isInteger(n) && n >= 0 && n < count;
}
