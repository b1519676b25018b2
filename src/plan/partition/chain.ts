/** @file The exact cut of a chain of layers into contiguous stages: least slowest stage, then best balance, within the memory of each stage. */
import { DiffusionPipeError } from '../../core/errors.ts';

export interface PartitionOptions {
	/** Forward + backward time of each layer, ms. */
	readonly layerMs: readonly number[];
	/** Time of the hop at the cut after layer i, ms; one less than layers. A stage pays for both of its cuts. Absent: hops are free. */
	readonly cutMs?: readonly number[];
	/** Number of stages S, each with at least one layer. */
	readonly stages: number;
	/** Devices that share the work of each stage; one each unless given. */
	readonly replicas?: readonly number[];
	/** What each layer occupies, and the most that a stage may hold: one limit for all stages or one per stage. */
	readonly memory?: { readonly layerBytes: readonly number[]; readonly limitBytes: number | readonly number[] };
}

/** Layers [from, to) of the chain. */
export interface StageRange {
	readonly from: number;
	readonly to: number;
	/** The layers' time, shared by the stage's devices, and that of the stage's cuts. */
	readonly ms: number;
	/** 0 when no memory was given. */
	readonly bytes: number;
}

export interface Partition {
	readonly stages: readonly StageRange[];
	/** Time of the slowest stage. */
	readonly slowestMs: number;
}

/**
 * The partition with the least slowest stage; among those, the one with the least sum of squared stage times; among those, the one whose early stages
 * have the fewest layers, since they hold the most micro-batches. Exact, by dynamic programs over layers x stages: O(stages layers^2).
 * Throws an input error when arrays do not fit together, when there are more stages than layers, or when no partition fits in memory (naming a
 * stage that does not fit where all stages together come closest, and its bytes).
 */
export function partitionChain(options: PartitionOptions): Partition {
	check(options);
	const { layerMs, cutMs, stages, replicas, memory } = options;
	const count = layerMs.length;
	const timeOf = rangeSums(layerMs);
	const bytesOf = memory ? rangeSums(memory.layerBytes) : () => 0;
	const limitOf = (stage: number) => (memory === undefined ? Number.POSITIVE_INFINITY : limitAt(memory.limitBytes, stage));
	const ms = (from: number, to: number, stage: number) =>
		timeOf(from, to) / (replicas?.[stage] ?? 1) + (from > 0 ? (cutMs?.[from - 1] ?? 0) : 0) + (to < count ? (cutMs?.[to - 1] ?? 0) : 0);
	const fits = (from: number, to: number, stage: number) => bytesOf(from, to) <= limitOf(stage);

	const { best: slowestMs } = bestCut(
		count,
		stages,
		(from, to, stage) => (fits(from, to, stage) ? ms(from, to, stage) : Number.POSITIVE_INFINITY),
		Math.max,
	);
	if (slowestMs === Number.POSITIVE_INFINITY) throw memoryError(count, stages, bytesOf, limitOf);
	const { bounds } = bestCut(
		count,
		stages,
		(from, to, stage) => (fits(from, to, stage) && ms(from, to, stage) <= slowestMs ? ms(from, to, stage) ** 2 : Number.POSITIVE_INFINITY),
		(a, b) => a + b,
	);
	const ranges = rangesOf(bounds).map(([from, to], stage) => ({ from, to, ms: ms(from, to, stage), bytes: bytesOf(from, to) }));
	return { stages: ranges, slowestMs };
}

/**
 * The cut of [0, count) into `stages` non-empty ranges whose costs, combined from the last stage to the first, are least; bounds are 0, the cuts, count.
 * Ties take the earliest cuts. `best` is infinite when every cut has an infinite cost.
 */
function bestCut(
	count: number,
	stages: number,
	cost: (from: number, to: number, stage: number) => number,
	combine: (first: number, rest: number) => number,
): { best: number; bounds: number[] } {
	// rest[stage][from]: the best of layers [from, count) over stages [stage, stages); ends[stage][from]: where its first range ends.
	const rest = Array.from({ length: stages + 1 }, () => new Array<number>(count + 1).fill(Number.POSITIVE_INFINITY));
	const ends = Array.from({ length: stages }, () => new Array<number>(count + 1).fill(count));
	for (let stage = stages - 1; stage >= 0; stage--) {
		const last = stage === stages - 1;
		const lastTo = count - (stages - 1 - stage);
		for (let from = stage; from < lastTo; from++) {
			for (let to = last ? count : from + 1; to <= lastTo; to++) {
				const own = cost(from, to, stage);
				const total = last ? own : combine(own, rest[stage + 1]![to]!);
				if (total < rest[stage]![from]!) {
					rest[stage]![from] = total;
					ends[stage]![from] = to;
				}
			}
		}
	}
	const bounds = [0];
	for (let stage = 0; stage < stages; stage++) bounds.push(ends[stage]![bounds[stage]!]!);
	return { best: rest[0]![0]!, bounds };
}

function rangesOf(bounds: readonly number[]): [number, number][] {
	return bounds.slice(1).map((to, i) => [bounds[i]!, to]);
}

/** Sums of [from, to), each added up from its own start so that equal ranges have equal sums. */
function rangeSums(values: readonly number[]): (from: number, to: number) => number {
	const table = values.map((_, from) => {
		const sums = [0];
		for (let i = from; i < values.length; i++) sums.push(sums.at(-1)! + values[i]!);
		return sums;
	});
	return (from, to) => table[from]![to - from]!;
}

function limitAt(limits: number | readonly number[], stage: number): number {
	return typeof limits === 'number' ? limits : limits[stage]!;
}

function memoryError(
	count: number,
	stages: number,
	bytesOf: (from: number, to: number) => number,
	limitOf: (stage: number) => number,
): DiffusionPipeError {
	const excess = (from: number, to: number, stage: number) => bytesOf(from, to) - limitOf(stage);
	const { bounds } = bestCut(count, stages, excess, Math.max);
	const ranges = rangesOf(bounds);
	const worst = ranges.reduce((a, [from, to], stage) => (excess(from, to, stage) > excess(ranges[a]![0], ranges[a]![1], a) ? stage : a), 0);
	const [from, to] = ranges[worst]!;
	return new DiffusionPipeError('input', 'no partition fits in memory', {
		place: `partition of ${count} layers into ${stages} stages`,
		expected: `at most ${limitOf(worst)} bytes in stage ${worst}`,
		found: `${bytesOf(from, to)} bytes (layers ${from} to ${to - 1}) even where the fullest stage is least full`,
		hint: 'more stages, smaller micro-batches, or recomputing activations',
		reason: 'memory',
	});
}

function check({ layerMs, cutMs, stages, memory }: PartitionOptions): void {
	const place = `partition of ${layerMs.length} layers into ${stages} stages`;
	const fail = (what: string, expected: string, found: string): never => {
		throw new DiffusionPipeError('input', what, { place, expected, found });
	};
	if (!Number.isSafeInteger(stages) || stages < 1) fail('bad number of stages', 'a whole number from 1', String(stages));
	if (stages > layerMs.length) fail('more stages than layers', `at most ${layerMs.length} stages`, String(stages));
	const arrays: [string, readonly number[] | undefined, number][] = [
		['layerMs', layerMs, layerMs.length],
		['cutMs', cutMs, layerMs.length - 1],
		['layerBytes', memory?.layerBytes, layerMs.length],
		[
			'limitBytes',
			typeof memory?.limitBytes === 'number' ? [memory.limitBytes] : memory?.limitBytes,
			typeof memory?.limitBytes === 'number' ? 1 : stages,
		],
	];
	for (const [name, values, length] of arrays) {
		if (values === undefined) continue;
		if (values.length !== length) fail(`${name} has the wrong length`, String(length), String(values.length));
		const bad = values.findIndex((v) => !(v >= 0 && v < Number.POSITIVE_INFINITY));
		if (bad >= 0) fail(`${name}[${bad}] is no cost`, 'a finite number from 0', String(values[bad]));
	}
}
