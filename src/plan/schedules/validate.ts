/** @file The rules that every schedule obeys, checked without knowing which generator made it. */
import { DiffusionPipeError } from '../../core/errors.ts';
import { slotsOf } from './slots.ts';
import { formatAction } from './text.ts';
import { linear } from './topology.ts';
import type { Action, PlacedSchedule, Schedule, ScheduleOptions, StagePlace } from './types.ts';

/**
 * Returns `schedule`, or throws an input error naming rank and action, unless each of S stages of one chain runs each of M micro-batches exactly once,
 * forward and backward (B, or I and W) on one rank, each forward before its backward, I before W, and the rows fit together in some order of time.
 */
export function validateSchedule(schedule: Schedule, { stages, microBatches }: Pick<ScheduleOptions, 'stages' | 'microBatches'>): Schedule {
	checkRows(schedule, linear(stages).stages, microBatches);
	return schedule;
}

/**
 * Returns `placed`, or throws an input error naming stage, or rank and action, unless the stages are chains on ranks that there are, forward-only stages
 * come first in them, and the rows obey what `validateSchedule` asks, every action on its stage's rank, without backwards of forward-only stages.
 */
export function validatePlaced(placed: PlacedSchedule, microBatches: number): PlacedSchedule {
	const { ranks, stages, rows } = placed;
	checkTopology(ranks, stages);
	if (rows.length !== ranks) {
		throw new DiffusionPipeError('input', 'another number of rows', {
			place: 'schedule',
			expected: `one row for each of ${ranks} ranks`,
			found: String(rows.length),
		});
	}
	for (const [rank, row] of rows.entries()) {
		for (const [index, action] of row.entries()) {
			const home = stages[action.stage]?.rank;
			if (home !== undefined && home !== rank)
				fail(rank, index, action, 'runs on another rank', `rank ${home}, which holds the stage`, `rank ${rank}`);
		}
	}
	checkRows(rows, stages, microBatches);
	return placed;
}

function checkTopology(ranks: number, stages: readonly StagePlace[]): void {
	const fedBy = new Map<number, number>();
	for (const [i, { rank, next, forwardOnly }] of stages.entries()) {
		const bad = (what: string, expected: string, found: string): never => {
			throw new DiffusionPipeError('input', what, { place: `schedule, stage ${i}`, expected, found });
		};
		if (!isIndex(rank, ranks)) bad('on no rank', `a rank below ${ranks}`, String(rank));
		if (next === undefined) {
			if (forwardOnly) bad('a sweep ahead that feeds nothing', 'next', 'none');
			continue;
		}
		if (!isIndex(next, stages.length)) bad('an unknown stage follows', `a stage below ${stages.length}`, String(next));
		if (next <= i) bad('an earlier stage follows', `a stage above ${i}`, String(next));
		if (stages[next]!.forwardOnly && !forwardOnly) bad('a sweep ahead follows', 'a stage with a backward', `stage ${next} without`);
		const rival = fedBy.get(next);
		if (rival !== undefined) bad('two stages feed one', `stage ${next} fed by stage ${rival} alone`, `stage ${i} as well`);
		fedBy.set(next, i);
	}
}

function checkRows(schedule: Schedule, stages: readonly StagePlace[], microBatches: number): void {
	const seen = new Map<string, { rank: number; index: number }>();
	const at = (kind: Action['kind'], { stage, micro }: Pick<Action, 'stage' | 'micro'>) => seen.get(formatAction({ stage, kind, micro }));
	schedule.forEach((row, rank) => {
		row.forEach((action, index) => {
			const refuse = (what: string, expected: string, found: string) => fail(rank, index, action, what, expected, found);
			if (!isIndex(action.stage, stages.length)) refuse('unknown stage', `a stage below ${stages.length}`, String(action.stage));
			if (!isIndex(action.micro, microBatches)) refuse('unknown micro-batch', `a micro-batch below ${microBatches}`, String(action.micro));
			if (action.kind !== 'F' && stages[action.stage]!.forwardOnly) refuse('no backward here', 'F alone of a sweep ahead', action.kind);
			const before = at(action.kind, action);
			if (before) refuse('runs twice', 'each micro-batch once per stage', `also rank ${before.rank}, action ${before.index}`);
			const needed = action.kind === 'F' ? undefined : action.kind === 'W' ? 'I' : 'F';
			const elsewhere =
				needed && (at(needed, action) ?? refuse('runs too early', `${needed} of the micro-batch before it`, 'none on this rank before it'));
			if (elsewhere && elsewhere.rank !== rank)
				refuse('runs on another rank', `rank ${elsewhere.rank}, where its ${needed} runs`, `rank ${rank}`);
			const rival = action.kind === 'B' ? 'I' : action.kind === 'I' ? 'B' : undefined;
			if (rival && at(rival, action)) refuse('runs twice', 'one backward: B alone, or I and W', `${rival} as well`);
			seen.set(formatAction(action), { rank, index });
		});
	});
	for (const [stage, { forwardOnly }] of stages.entries()) {
		for (let micro = 0; micro < microBatches; micro++) {
			const has = (kind: Action['kind']) => at(kind, { stage, micro }) !== undefined;
			const missing = !has('F') ? 'F' : forwardOnly ? undefined : has('I') && !has('W') ? 'W' : !has('B') && !has('I') ? 'B' : undefined;
			if (missing === undefined) continue;
			const rank = at('F', { stage, micro })?.rank ?? schedule.findIndex((row) => row.some((action) => action.stage === stage));
			throw new DiffusionPipeError('input', 'an action is missing', {
				place: rank < 0 ? 'schedule' : `schedule, rank ${rank}`,
				expected: `each of ${stages.length} stages running each of ${microBatches} micro-batches`,
				found: `no ${stage}${missing}${micro}`,
			});
		}
	}
	slotsOf(schedule, stages);
}

function fail(rank: number, index: number, action: Action, what: string, expected: string, found: string): never {
	throw new DiffusionPipeError('input', what, {
		place: `schedule, rank ${rank}, action ${index} (${formatAction(action)})`,
		expected,
		found,
	});
}

function isIndex(n: number, count: number): boolean {
	return Number.isInteger(n) && n >= 0 && n < count;
}
