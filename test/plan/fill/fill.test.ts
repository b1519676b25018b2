import fc from 'fast-check';
import { expect, test } from 'vitest';
import { greedyFilling } from '../../../src/plan/fill/greedy.ts';
import { checkFill, type FillProblem, fillBubbles } from '../../../src/plan/fill/index.ts';
import { fillModel } from '../../../src/plan/fill/model.ts';
import { frozenWeights, refill } from '../../../src/plan/fill/refill.ts';
import { fillResult } from '../../../src/plan/fill/result.ts';
import type { FrozenComponent } from '../../../src/plan/profile/types.ts';
import { fillCases } from './cases.ts';
import { pipelineCase } from './pipelines.ts';

/** Layers of which sample after sample takes `ms`, without anything per part. */
function component(
	name: string,
	ms: readonly number[],
	over: Partial<FrozenComponent['layers'][number]> & { after?: string[] } = {},
): FrozenComponent {
	const { after = [], ...rest } = over;
	const layers = ms.map((each, i) => ({
		name: `${name}.${i}`,
		forwardMs: [each, 2 * each, 4 * each],
		outputBytes: 0,
		paramBytes: 1,
		...rest,
	}));
	return { name, after, layers };
}

function problemOf(over: Partial<FillProblem>): FillProblem {
	return {
		idle: [[{ start: 0, end: 10 }], [{ start: 10, end: 20 }]],
		endMs: 20,
		batch: 4,
		batchSizes: [1, 2, 4],
		components: [component('a', [1, 1])],
		transferMs: (bytes, from, to) => (from === to ? 0 : 1 + bytes),
		...over,
	};
}

function greedyAlone(problem: FillProblem) {
	const model = fillModel(problem);
	return fillResult(model, greedyFilling(model), model.endMs);
}

test('random small problems: whole, never worse than the greedy or below the bound, the same every time', () => {
	for (const [index, problem] of fillCases(7, 100).entries()) {
		const greedy = greedyAlone(problem);
		checkFill(problem, greedy);
		for (const effort of index % 10 === 0 ? [0, 0.05] : [0]) {
			const result = fillBubbles(problem, { effort });
			checkFill(problem, result);
			expect(result.iterationMs).toBeLessThanOrEqual(greedy.iterationMs + 1e-6);
			expect(result.iterationMs).toBeGreaterThanOrEqual(result.lowerBoundMs);
			expect(fillBubbles(problem, { effort })).toEqual(result);
		}
	}
});

test('a filling carried over to other idle time is whole there, on the same devices', () => {
	for (const [index, problem] of fillCases(8, 60).entries()) {
		const { items } = fillBubbles(problem, { effort: 0 });
		const { idle, endMs } = fillCases(9, 60).filter((other) => other.idle.length === problem.idle.length)[index % 20]!;
		const other = { ...problem, idle, endMs };
		const carried = refill(other, items);
		checkFill(other, carried);
		const placesOf = (all: typeof items) => new Set(all.map(({ device, component: name, layer }) => `${device} ${name} ${layer}`));
		expect(placesOf(carried.items)).toEqual(placesOf(items));
		expect(frozenWeights(problem, [items, carried.items])).toEqual(frozenWeights(problem, [items]));
	}
});

test('pipelines of several shapes: whole, never worse than the greedy', () => {
	for (let index = 0; index < 24; index++) {
		const problem = pipelineCase(3, index);
		const greedy = greedyAlone(problem);
		checkFill(problem, greedy);
		const result = fillBubbles(problem, { effort: index % 8 === 0 ? 0.1 : 0 });
		checkFill(problem, result);
		expect(result.iterationMs).toBeLessThanOrEqual(greedy.iterationMs + 1e-6);
	}
});

test('what fits costs nothing', () => {
	const result = fillBubbles(problemOf({}));
	expect(result).toMatchObject({ iterationMs: 20, lowerBoundMs: 20, moves: [] });
});

test('nothing to fill in leaves the iteration as it is', () => {
	for (const components of [[], [component('empty', [])]]) {
		const result = fillBubbles(problemOf({ components }));
		expect(result).toEqual({ items: [], moves: [], iterationMs: 20, lowerBoundMs: 20, method: 'nothing to fill in' });
		checkFill(problemOf({ components }), result);
	}
});

test('a component without layers hands its order on', () => {
	const components = [component('last', [1], { after: ['empty'] }), component('empty', [], { after: ['first'] }), component('first', [1])];
	const result = fillBubbles(problemOf({ components, idle: [[{ start: 0, end: 20 }]] }));
	checkFill(problemOf({ components, idle: [[{ start: 0, end: 20 }]] }), result);
	expect(result.items.map((item) => item.component)).toEqual(['first', 'last']);
	const early = { ...result, items: result.items.map((item, i) => ({ ...item, component: ['last', 'first'][i]! })) };
	expect(() => checkFill(problemOf({ components, idle: [[{ start: 0, end: 20 }]] }), early)).toThrow('input not there');
});

test('the bound counts work against idle time, and the time of a chain', () => {
	// 4 samples of 2 x 5 ms, 10 ms idle on each of two devices: 10 ms are left for each.
	expect(fillBubbles(problemOf({ components: [component('a', [5, 5])] }))).toMatchObject({
		iterationMs: 30,
		lowerBoundMs: expect.closeTo(30, 6),
	});
	// one sample cannot be split: its three layers of 9 ms follow one another, the first in an interval of 10 ms, the next in another one.
	const chain = problemOf({ batch: 1, batchSizes: [1, 2, 4], components: [component('a', [9, 9, 9])], transferMs: () => 0 });
	expect(fillBubbles(chain)).toMatchObject({ iterationMs: 28, lowerBoundMs: expect.closeTo(28, 6) });
	// large parts save half of the work, but then all of it is one chain of 30 ms; of two chains of 20 ms each both devices take one.
	const fixed = { name: 'l', forwardMs: [10, 10, 15], outputBytes: 0, paramBytes: 0 };
	const dear = problemOf({ idle: [[], []], endMs: 0, components: [{ name: 'a', after: [], layers: [fixed, fixed] }], transferMs: () => 0 });
	expect(fillBubbles(dear)).toMatchObject({ iterationMs: 20, lowerBoundMs: expect.closeTo(20, 6) });
});

test('the greedy takes the longest candidate, then part of one more layer, and finishes it first in the next interval', () => {
	const problem = problemOf({
		idle: [
			[
				{ start: 0, end: 10 },
				{ start: 15, end: 40 },
			],
		],
		endMs: 40,
		components: [component('a', [2, 1]), component('b', [1])],
	});
	// 4 ms are the second layer of a, or b; 8 + 2 of 4 samples of one of them fill the 10 ms.
	const { items } = greedyAlone(problem);
	const early = items.filter(({ startMs }) => startMs < 15);
	expect(early.map(({ component: name, layer, samples }) => `${name}${layer} ${samples}`)).toEqual(['a0 0,4', 'a1 0,2']);
	expect(items[2]).toMatchObject({ component: 'a', layer: 1, samples: [2, 4], startMs: 15, endMs: 17 });
});

test('weights that fit on one device only keep their layer there', () => {
	const components = [component('a', [1], { paramBytes: 10 }), component('b', [1], { paramBytes: 6, after: ['a'] })];
	const problem = problemOf({ components, freeBytes: [10, 6] });
	const result = fillBubbles(problem);
	checkFill(problem, result);
	expect(new Set(result.items.map((item) => `${item.component}${item.device}`))).toEqual(new Set(['a0', 'b1']));
	expect(result.moves.every(({ from, to }) => from === 0 && to === 1)).toBe(true);
	expect(result.iterationMs).toBe(20);
});

test('a layer that fits nowhere is named', () => {
	const components = [component('vae', [1]), component('text', [1, 1], { paramBytes: 11 })];
	expect(() => fillBubbles(problemOf({ components, freeBytes: [10, 6] }))).toThrow(
		"frozen component 'text', layer 0 ('text.0'): its weights fit on no device",
	);
	// each fits alone, but not all of them together.
	const three = [component('text', [1, 1, 1], { paramBytes: 6 })];
	expect(() => fillBubbles(problemOf({ components: three, freeBytes: [10, 6] }))).toThrow('its weights fit on no device');
});

test('problems without sense are told apart', () => {
	const bad: [Partial<FillProblem>, string][] = [
		[{ idle: [] }, 'at least one device'],
		[{ batch: 0 }, 'batch'],
		[{ batch: 1.5 }, 'batch'],
		[{ batchSizes: [2, 1, 4] }, 'batchSizes'],
		[{ batchSizes: [1, 2] }, "frozen component 'a', layer 0"],
		[{ endMs: Number.NaN }, 'endMs'],
		[{ idle: [[{ start: 5, end: 3 }]] }, 'idle interval 0 of device 0'],
		[{ idle: [[{ start: 0, end: 30 }]] }, 'idle interval 0 of device 0'],
		[{ freeBytes: [1] }, 'freeBytes'],
		[{ components: [component('a', [1]), component('a', [1])] }, 'two frozen components have one name'],
		[{ components: [component('a', [1], { after: ['b'] })] }, 'unknown component'],
		[{ components: [component('a', [1], { after: ['b'] }), component('b', [1], { after: ['a'] })] }, 'components wait for each other'],
		[{ components: [component('a', [Number.NaN])] }, "frozen component 'a', layer 0"],
	];
	for (const [over, message] of bad) expect(() => fillBubbles(problemOf(over))).toThrow(message);
});

test('short intervals are left alone', () => {
	const result = fillBubbles(problemOf({ components: [component('a', [1])], shortestMs: 11 }));
	// the second device's interval reaches the flush, so it is as long as is needed.
	expect(result.items.every(({ device, startMs }) => device === 1 || startMs >= 20)).toBe(true);
});

test('a chain of very many layers is filled in blocks and told layer by layer', () => {
	const idle = Array.from({ length: 4 }, (_, d) => [{ start: d * 10, end: d * 10 + 60 }]);
	const problem = problemOf({ idle, endMs: 100, batch: 8, components: [component('a', Array(1000).fill(0.02))] });
	const result = fillBubbles(problem);
	checkFill(problem, result);
	expect(result.iterationMs).toBe(100);
	expect(new Set(result.items.map(({ layer }) => layer)).size).toBe(1000);
});

test('a large pipeline is filled to its bound by shares without moves', () => {
	const problem = pipelineCase(1, 0, { stages: 8, microBatches: 16, copies: 2, batch: 256, layers: [30, 24, 32], rho: 0.3 });
	expect(problem.idle).toHaveLength(16);
	const result = fillBubbles(problem, { effort: 0 });
	checkFill(problem, result);
	expect(result).toMatchObject({ iterationMs: problem.endMs, method: 'shares', moves: [] });
});

test('a layer that takes no time may run while another does', () => {
	const components = [[3, 0], [], [2, 1]].map((own, c) => component(`c${c}`, own, { after: c > 1 ? ['c0'] : [] }));
	const problem = problemOf({ idle: [[], [{ start: 1, end: 4 }]], endMs: 4, batch: 4, components });
	checkFill(problem, fillBubbles(problem, { effort: 0.01 }));
});

test('any split of idle time and work: whole and no earlier than the bound', () => {
	const ms = fc.integer({ min: 0, max: 6 });
	fc.assert(
		fc.property(
			fc.array(fc.array(fc.tuple(ms, ms), { maxLength: 3 }), { minLength: 1, maxLength: 4 }),
			fc.array(fc.array(ms, { maxLength: 4 }), { maxLength: 3 }),
			fc.integer({ min: 1, max: 9 }),
			(gaps, layers, batch) => {
				const idle = gaps.map((own) => {
					let at = 0;
					return own.map(([busy, length]) => {
						const start = at + busy + 1;
						at = start + length;
						return { start, end: at };
					});
				});
				const endMs = Math.max(0, ...idle.flat().map(({ end }) => end));
				const components = layers.map((own, c) => component(`c${c}`, own, { after: c > 1 ? ['c0'] : [] }));
				const problem = problemOf({ idle, endMs, batch, components });
				const result = fillBubbles(problem, { effort: 0.01 });
				checkFill(problem, result);
				expect(result.iterationMs).toBeGreaterThanOrEqual(result.lowerBoundMs);
			},
		),
		{ numRuns: 80 },
	);
});
