import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type PartitionOptions, partitionChain } from '../../../src/plan/partition/chain.ts';

const bounds = (options: PartitionOptions) => partitionChain(options).stages.map(({ from, to }) => [from, to]);

/** All ways to cut, in the order in which ties are broken: earliest cuts first. */
function* allCuts(count: number, stages: number, from = 0): Generator<[number, number][]> {
	if (stages === 1) {
		yield [[from, count]];
		return;
	}
	for (let to = from + 1; to <= count - stages + 1; to++) for (const rest of allCuts(count, stages - 1, to)) yield [[from, to], ...rest];
}

/** The best cut by trying all of them, or undefined when memory allows none. */
function bruteForce({ layerMs, cutMs, stages, memory }: PartitionOptions): { cut: [number, number][]; slowest: number } | undefined {
	let best: { cut: [number, number][]; slowest: number; squares: number } | undefined;
	const sum = (values: readonly number[]) => values.reduce((a, b) => a + b, 0);
	for (const cut of allCuts(layerMs.length, stages)) {
		const limits = memory && (typeof memory.limitBytes === 'number' ? cut.map(() => memory.limitBytes as number) : memory.limitBytes);
		if (memory && cut.some(([from, to], s) => sum(memory.layerBytes.slice(from, to)) > limits![s]!)) continue;
		const costs = cut.map(([from, to]) => {
			const hops = [from, to].filter((c) => c > 0 && c < layerMs.length).map((c) => cutMs?.[c - 1] ?? 0);
			return sum(layerMs.slice(from, to)) + sum(hops);
		});
		const slowest = Math.max(...costs);
		const squares = sum(costs.map((c) => c * c));
		if (!best || slowest < best.slowest || (slowest === best.slowest && squares < best.squares)) best = { cut, slowest, squares };
	}
	return best;
}

test('finds what trying every cut finds, or fails where every cut fails', () => {
	const problem = fc.integer({ min: 1, max: 9 }).chain((count) => {
		const numbers = (length: number, max: number) => fc.array(fc.nat(max), { minLength: length, maxLength: length });
		const stages = fc.integer({ min: 1, max: Math.min(4, count) });
		return stages.chain((S) =>
			fc.record(
				{
					layerMs: numbers(count, 12),
					stages: fc.constant(S),
					cutMs: numbers(count - 1, 5),
					memory: fc.record({ layerBytes: numbers(count, 9), limitBytes: fc.oneof(fc.nat(40), numbers(S, 40)) }),
				},
				{ requiredKeys: ['layerMs', 'stages'] },
			),
		);
	});
	fc.assert(
		fc.property(problem, (options: PartitionOptions) => {
			const expected = bruteForce(options);
			if (!expected) {
				expect(() => partitionChain(options)).toThrow('no partition fits in memory');
				return;
			}
			expect(partitionChain(options).slowestMs).toBe(expected.slowest);
			expect(bounds(options)).toEqual(expected.cut);
		}),
		{ numRuns: 1000 },
	);
});

describe('examples', () => {
	test('stages report their layers, time with cuts, and bytes', () => {
		expect(
			partitionChain({ layerMs: [4, 1, 1, 4], cutMs: [9, 1, 9], stages: 2, memory: { layerBytes: [10, 20, 30, 40], limitBytes: 100 } }),
		).toEqual({
			stages: [
				{ from: 0, to: 2, ms: 6, bytes: 30 },
				{ from: 2, to: 4, ms: 6, bytes: 70 },
			],
			slowestMs: 6,
		});
	});

	test('a costly cut is avoided', () => {
		expect(bounds({ layerMs: [1, 1, 1, 1], cutMs: [0, 9, 0], stages: 2 })).toEqual([
			[0, 1],
			[1, 4],
		]);
	});

	test('equal partitions: better balance beyond the slowest stage, then small early stages', () => {
		expect(bounds({ layerMs: [6, 1, 1, 1, 1], stages: 3 })).toEqual([
			[0, 1],
			[1, 3],
			[3, 5],
		]);
		expect(bounds({ layerMs: [1, 1, 1, 1, 1], stages: 2 })).toEqual([
			[0, 2],
			[2, 5],
		]);
	});

	test('a limit per stage moves the cut', () => {
		const chain = { layerMs: [2, 2, 2, 2], stages: 2 };
		expect(bounds({ ...chain, memory: { layerBytes: [5, 5, 5, 5], limitBytes: [5, 15] } })).toEqual([
			[0, 1],
			[1, 4],
		]);
	});
});

describe('errors', () => {
	const chain: PartitionOptions = { layerMs: [1, 2, 3], stages: 2 };
	test('more stages than layers', () => {
		expect(() => partitionChain({ ...chain, stages: 4 })).toThrow(
			'partition of 3 layers into 4 stages: more stages than layers\n  expected: at most 3 stages\n  found: 4',
		);
	});

	test('memory names the stage and its bytes', () => {
		expect(() => partitionChain({ ...chain, memory: { layerBytes: [10, 10, 25], limitBytes: 24 } })).toThrow(
			'no partition fits in memory\n  expected: at most 24 bytes in stage 1\n  found: 25 bytes (layers 2 to 2) even where the fullest stage is least full',
		);
	});

	test.each<[string, Partial<PartitionOptions>, string]>([
		['no stages', { stages: 0 }, 'bad number of stages'],
		['half a stage', { stages: 1.5 }, 'bad number of stages'],
		['too many cuts', { cutMs: [1, 2, 3] }, 'cutMs has the wrong length\n  expected: 2\n  found: 3'],
		['a time that is not one', { layerMs: [1, Number.NaN, 2] }, 'layerMs[1] is no cost'],
		['a negative hop', { cutMs: [1, -1] }, 'cutMs[1] is no cost'],
		['bytes of other layers', { memory: { layerBytes: [1], limitBytes: 3 } }, 'layerBytes has the wrong length'],
		['limits of other stages', { memory: { layerBytes: [1, 1, 1], limitBytes: [3] } }, 'limitBytes has the wrong length'],
	])('%s', (_, change, message) => {
		expect(() => partitionChain({ ...chain, ...change })).toThrow(message);
	});
});
