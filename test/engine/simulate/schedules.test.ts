/** @file Programs of every schedule, walked by the simulator: devices run their rows in order, and predictions order the schedules as theory does. */
import { describe, expect, it } from 'vitest';
import { simulate } from '../../../src/engine/simulate/simulate.ts';
import { placeSchedule } from '../../../src/plan/schedules/index.ts';
import { formatAction } from '../../../src/plan/schedules/text.ts';
import type { Action } from '../../../src/plan/schedules/types.ts';
import { skipChain } from '../chains.ts';
import { compile, onEight } from '../suite.ts';

const costs = {
	runMs: (graph: string) => (graph.endsWith('.backward') ? 2 : graph.startsWith('stage') ? 1 : 0),
	transferMs: () => 0,
	allReduceMs: () => 0,
	updateMs: () => 0,
};

describe('simulated programs', () => {
	it.each(onEight)('$name: every device runs its row in order', (where) => {
		const { cuts, schedule, microBatches, warmup, place, shares, replicas } = where;
		const { program, banks } = compile(skipChain, where, { moments: 0, hyperSize: 0 });
		// A stage without weights has nothing to do in W.
		const runs = ({ kind, stage }: Action) => kind !== 'W' || banks[stage]!.parameters.length > 0;
		const placed = placeSchedule(schedule, { ranks: cuts.length + 1, microBatches, warmup: warmup ?? 'usual', ...place });
		const { devices } = simulate(program, costs);
		const rows = devices.map(({ spans }) => spans.flatMap(({ action }) => (action ? [formatAction(action)] : [])).join());
		const wanted = placed.rows.flatMap((row, rank) =>
			new Array<string>(replicas * (shares?.[rank] ?? 1)).fill(row.filter(runs).map(formatAction).join()),
		);
		expect(rows.toSorted()).toEqual(wanted.toSorted());
	});

	it('ends earlier the smaller the bubbles: GPipe and 1F1B alike, then interleaved, then zero bubble', () => {
		const end = (name: string, scale: number) => {
			const { program } = compile(skipChain, onEight.find((where) => where.name === name)!, { moments: 0, hyperSize: 0 });
			return Math.max(...simulate(program, costs).devices.flatMap(({ spans }) => spans.map((span) => span.end))) / scale;
		};
		const gpipe = end('gpipe, 8 ranks', 1);
		expect(end('1f1b, 8 ranks', 1)).toBe(gpipe);
		const interleaved = end('interleaved-1f1b, 8 ranks of 2', 2);
		const zeroBubble = end('zero-bubble, 8 ranks', 1);
		expect(interleaved).toBeLessThan(gpipe);
		expect(zeroBubble).toBeLessThan(interleaved);
	});
});
