import fc from 'fast-check';
import { expect, test } from 'vitest';
import { simulatePipeline } from '../../../src/plan/pipeline/simulate.ts';
import { linearTimer, stageTimes } from '../../../src/plan/pipeline/timer.ts';
import { schedules } from '../../../src/plan/schedules/index.ts';

const ms = fc.integer({ min: 0, max: 9 });
const stage = fc.record({
	forwardMs: ms,
	backwardInputMs: ms,
	backwardWeightMs: ms,
	hopForwardMs: ms,
	hopBackwardMs: ms,
	syncMs: ms,
	updateMs: ms,
});

test('the timer ends when the simulator does, again and again', () => {
	fc.assert(
		fc.property(
			fc.array(fc.array(stage, { minLength: 4, maxLength: 4 }), { minLength: 1, maxLength: 3 }),
			fc.integer({ min: 1, max: 4 }),
			fc.integer({ min: 1, max: 6 }),
			fc.constantFrom('gpipe', '1f1b'),
			fc.boolean(),
			(costs, ranks, microBatches, name, split) => {
				const whole = schedules[name]!({ stages: ranks, microBatches });
				const rows = split
					? whole.map((row) => row.flatMap((a) => (a.kind === 'B' ? (['I', 'W'] as const).map((kind) => ({ ...a, kind })) : [a])))
					: whole;
				const timer = linearTimer(rows);
				for (const all of costs) {
					const stages = all.slice(0, ranks).map((one, rank) => ({
						rank,
						...(rank + 1 < ranks ? { next: rank + 1 } : {}),
						...one,
						...(rank + 1 < ranks ? {} : { hopForwardMs: 0, hopBackwardMs: 0 }),
						savedBytes: 0,
						staticBytes: 0,
					}));
					const times = stageTimes(ranks);
					stages.forEach((one, rank) => {
						for (const [key, values] of Object.entries(times)) values[rank] = one[key as keyof typeof times];
					});
					expect(timer(times)).toBe(simulatePipeline({ ranks, stages, rows }).endMs);
				}
			},
		),
		{ numRuns: 300 },
	);
});
