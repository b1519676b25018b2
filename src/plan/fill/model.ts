/** @file A filling problem in the form the searches work on: layers as blocks in one topological order, times by samples as a table, idle time as windows. */
import type { FrozenComponent } from '../profile/types.ts';
import { componentOrder, lastLayersOf } from './order.ts';
import { checkProblem } from './problem.ts';
import type { FillProblem } from './types.ts';
import { type Weights, weightsOf } from './weights.ts';

/** One or more consecutive layers of a component that run on the same samples on the same device one after another. */
export interface Block {
	/** Index in the problem's `components`. */
	readonly component: number;
	/** Layers [first, end) of the component. */
	readonly first: number;
	readonly end: number;
	/** Blocks that must have run on a sample before; all of smaller index. */
	readonly before: readonly number[];
	readonly outputBytes: number;
	readonly paramBytes: number;
}

/** A device's idle time, in order; the last window has no end. */
export interface Windows {
	readonly starts: Float64Array;
	readonly ends: Float64Array;
}

export interface FillModel {
	readonly problem: FillProblem;
	readonly devices: number;
	readonly batch: number;
	readonly endMs: number;
	/** Differences below this are rounding, ms. */
	readonly eps: number;
	readonly blocks: readonly Block[];
	/** Whether some block is more than one layer. */
	readonly merged: boolean;
	/** The blocks of each component, in its order. */
	readonly chains: readonly (readonly number[])[];
	/** Components in an order in which each stands after those whose output it takes. */
	readonly order: readonly number[];
	/** ms of block b on n samples at [b * (batch + 1) + n]. */
	readonly times: Float64Array;
	/** Part sizes that are compiled anyhow, ascending: the profile's and those of the batch split evenly. */
	readonly sizes: readonly number[];
	readonly windows: readonly Windows[];
	readonly weights: Weights;
}

/** More blocks than this are never told apart: the lightest neighbours of a chain are merged. */
const MOST_BLOCKS = 160;

/** The model of a problem; throws input errors for what no filling can be found for. */
export function fillModel(problem: FillProblem, mostBlocks = MOST_BLOCKS): FillModel {
	checkProblem(problem);
	const { components, batch, endMs } = problem;
	const devices = problem.idle.length;
	const order = componentOrder(components);
	const sizes = partSizes(problem);
	const tables = components.map((component) => component.layers.map((layer) => timesOf(problem.batchSizes, layer.forwardMs, batch)));
	const cuts = mergedCuts(components, tables, batch, roomForAll(problem) ? mostBlocks : Number.POSITIVE_INFINITY);
	const blocks: Block[] = [];
	const chains: number[][] = components.map(() => []);
	for (const c of order) {
		const { layers } = components[c]!;
		for (let i = 0; i + 1 < cuts[c]!.length; i++) {
			const [first, end] = [cuts[c]![i]!, cuts[c]![i + 1]!];
			const before = i > 0 ? [chains[c]![i - 1]!] : lastLayersOf(components, c).map((other) => chains[other]!.at(-1)!);
			chains[c]!.push(blocks.length);
			const paramBytes = layers.slice(first, end).reduce((sum, layer) => sum + layer.paramBytes, 0);
			blocks.push({ component: c, first, end, before, outputBytes: layers[end - 1]!.outputBytes, paramBytes });
		}
	}
	const times = new Float64Array(blocks.length * (batch + 1));
	for (const [b, { component, first, end }] of blocks.entries()) {
		for (let layer = first; layer < end; layer++) {
			const table = tables[component]![layer]!;
			for (let n = 0; n <= batch; n++) times[b * (batch + 1) + n]! += table[n]!;
		}
	}
	return {
		problem,
		devices,
		batch,
		endMs,
		eps: epsOf(endMs),
		blocks,
		merged: blocks.some(({ first, end }) => end > first + 1),
		chains,
		order,
		times,
		sizes,
		windows: problem.idle.map((_, d) => windowsOf(problem, d)),
		weights: weightsOf(problem, blocks),
	};
}

function epsOf(endMs: number): number {
	return 1e-9 * Math.max(endMs, 1e-3);
}

/** ms of block `b` on `n` samples. */
export function blockMs(model: FillModel, b: number, n: number): number {
	return model.times[b * (model.batch + 1) + n]!;
}

/** Whether every device has room for the weights of everything. */
function roomForAll({ freeBytes, components }: FillProblem): boolean {
	if (!freeBytes) return true;
	const all = components.reduce((sum, { layers }) => layers.reduce((inner, layer) => inner + layer.paramBytes, sum), 0);
	return freeBytes.every((free) => free >= all);
}

/** `timeAt` for 0 .. batch samples. */
function timesOf(batchSizes: readonly number[], ms: readonly number[], batch: number): Float64Array {
	const out = new Float64Array(batch + 1);
	const last = batchSizes.length - 1;
	let above = 0;
	for (let n = 1; n <= batch; n++) {
		while (above < last && batchSizes[above]! < n) above++;
		if (above === 0 || n >= batchSizes[last]!) {
			const at = n <= batchSizes[0]! ? 0 : last;
			out[n] = (ms[at]! * n) / batchSizes[at]!;
		} else {
			const [low, high] = [batchSizes[above - 1]!, batchSizes[above]!];
			out[n] = ms[above - 1]! + ((ms[above]! - ms[above - 1]!) * (n - low)) / (high - low);
		}
	}
	return out;
}

/** The profile's sizes up to the batch, and the whole and rounded parts of the batch split evenly over up to all devices. */
function partSizes({ batchSizes, batch, idle }: FillProblem): number[] {
	const sizes = new Set(batchSizes.filter((size) => size <= batch));
	for (let d = 1; d <= Math.min(idle.length, batch); d++) {
		sizes.add(Math.floor(batch / d));
		sizes.add(Math.ceil(batch / d));
	}
	return [...sizes].sort((a, b) => a - b);
}

/** Per component the layer indices at which blocks begin, and the number of layers. */
function mergedCuts(components: readonly FrozenComponent[], tables: readonly Float64Array[][], batch: number, most: number): number[][] {
	const cuts = components.map(({ layers }) => [...layers.keys(), layers.length]);
	const total = cuts.reduce((sum, own) => sum + own.length - 1, 0);
	if (total <= most) return cuts;
	const whole = tables.map((own) => own.map((table) => table[batch]!));
	const all = whole.flat().reduce((sum, ms) => sum + ms, 0);
	// a block takes layers until it is as heavy as the mean; a heavy layer stands alone.
	const mean = all / Math.max(1, most - components.length);
	return components.map(({ layers }, c) => {
		const own = [0];
		let weight = 0;
		for (let layer = 0; layer < layers.length; layer++) {
			const ms = whole[c]![layer]!;
			if (layer > own.at(-1)! && weight + ms > mean) {
				own.push(layer);
				weight = 0;
			}
			weight += ms;
		}
		return layers.length > 0 ? [...own, layers.length] : own;
	});
}

/** What is long enough to be used, the last window joined with the time after the flush. */
function windowsOf({ idle, endMs, shortestMs = 0 }: FillProblem, device: number): Windows {
	const own = idle[device]!;
	const last = own.at(-1);
	const joined = last !== undefined && last.end >= endMs - epsOf(endMs);
	const inner = (joined ? own.slice(0, -1) : own).filter(({ start, end }) => end > start && end - start >= shortestMs);
	return {
		starts: Float64Array.from([...inner.map(({ start }) => start), joined ? last.start : endMs]),
		ends: Float64Array.from([...inner.map(({ end }) => end), Number.POSITIVE_INFINITY]),
	};
}
