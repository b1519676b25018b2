import { expect, test } from 'vitest';
import { checkFill, fillBubbles } from '../../../src/plan/fill/index.ts';
import { fillCases } from './cases.ts';
import { exhaustiveFill } from './exhaustive.ts';

test('small problems are filled as well as trying everything would', () => {
	const gaps: number[] = [];
	let better = 0;
	for (const problem of fillCases(1, 100)) {
		const result = fillBubbles(problem, { effort: 0.3 });
		checkFill(problem, result);
		const best = exhaustiveFill(problem, result.iterationMs, 3e6);
		expect(best.complete).toBe(true);
		expect(result.lowerBoundMs).toBeLessThanOrEqual(best.iterationMs + 1e-6);
		gaps.push((result.iterationMs - best.iterationMs) / result.iterationMs);
		if (result.method !== 'greedy' && best.iterationMs > problem.endMs) better++;
	}
	gaps.sort((a, b) => a - b);
	expect(gaps[90]).toBe(0);
	expect(gaps.at(-1)).toBeLessThan(0.05);
	// the cases are not trivial: many do not fit, and the greedy alone is seldom best there.
	expect(better).toBeGreaterThan(30);
});
