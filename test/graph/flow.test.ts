import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type FlowEdge, minimumCut } from '../../src/graph/flow.ts';

/** Capacity of the edges that leave the set. */
const crossing = (edges: readonly FlowEdge[], inside: (v: number) => boolean) =>
	edges.reduce((sum, { from, to, capacity }) => (inside(from) && !inside(to) ? sum + capacity : sum), 0);

/** Least capacity over all cuts between vertices 0 and 1. */
function bruteForce(count: number, edges: readonly FlowEdge[]): number {
	let best = Number.POSITIVE_INFINITY;
	for (let mask = 0; mask < 2 ** (count - 2); mask++) {
		best = Math.min(
			best,
			crossing(edges, (v) => v === 0 || (v > 1 && (mask & (1 << (v - 2))) !== 0)),
		);
	}
	return best;
}

const count = 7;
const edge = fc.record({
	from: fc.integer({ min: 0, max: count - 1 }),
	to: fc.integer({ min: 0, max: count - 1 }),
	capacity: fc.oneof(
		{ weight: 4, arbitrary: fc.integer({ min: 0, max: 9 }) },
		{ weight: 1, arbitrary: fc.constant(Number.POSITIVE_INFINITY) },
	),
});

describe('minimumCut', () => {
	it('is as small as the best of all cuts', () => {
		fc.assert(
			fc.property(fc.array(edge, { maxLength: 20 }), (edges) => {
				const best = bruteForce(count, edges);
				fc.pre(Number.isFinite(best));
				const side = minimumCut(count, edges, 0, 1);
				expect(side[0]).toBe(true);
				expect(side[1]).toBe(false);
				expect(crossing(edges, (v) => side[v]!)).toBe(best);
			}),
			{ numRuns: 2000 },
		);
	});

	it('cuts nothing where no path leads', () => {
		expect(minimumCut(4, [{ from: 0, to: 2, capacity: 5 }], 0, 1)).toEqual([true, false, true, false]);
	});

	it('walks a path longer than the call stack', () => {
		const length = 200_000;
		const edges = Array.from({ length: length - 1 }, (_, i) => ({ from: i, to: i + 1, capacity: i === 30_000 ? 1 : 2 }));
		const side = minimumCut(length, edges, 0, length - 1);
		expect(side.indexOf(false)).toBe(30_001);
	});
});
