/** @file What no filling can beat: idle time against work, and the longest chain of dependencies. */
import { blockMs, type FillModel } from './model.ts';

/** ms; the iteration with the frozen work in it is at least this long, whatever the part sizes. */
export function lowerBound(model: FillModel): number {
	return Math.max(model.endMs, capacityBound(model), Math.max(0, ...earliestEnds(model)));
}

/** The time by which the devices together have been idle for as long as the work takes at its best part sizes. */
function capacityBound(model: FillModel): number {
	let work = 0;
	for (let b = 0; b < model.blocks.length; b++) work += leastWork(model, b);
	const spans = model.windows.flatMap(({ starts, ends }) => Array.from(starts, (start, i) => ({ start, end: ends[i]! })));
	const times = [...new Set(spans.flatMap(({ start, end }) => [start, end]))].filter(Number.isFinite).sort((a, b) => a - b);
	let idle = 0;
	for (const [i, from] of times.entries()) {
		const to = times[i + 1] ?? Number.POSITIVE_INFINITY;
		const devices = spans.filter(({ start, end }) => start <= from && end > from).length;
		if (devices > 0 && idle + devices * (to - from) >= work) return from + (work - idle) / devices;
		if (devices > 0) idle += devices * (to - from);
	}
	return times[0] ?? 0;
}

/**
 * Least device time of a block on the whole batch, in parts of any size. Time is linear between the profile's sizes, so of two parts between sizes one
 * could grow at the other's cost: at most one part has a size of its own.
 */
export function leastWork(model: FillModel, block: number): number {
	const { batch } = model;
	const corners = model.problem.batchSizes.filter((size) => size <= batch);
	const inCorners = new Float64Array(batch + 1).fill(Number.POSITIVE_INFINITY);
	inCorners[0] = 0;
	let least = blockMs(model, block, batch);
	for (let n = 0; n <= batch; n++) {
		for (const size of corners) {
			if (size > n) break;
			inCorners[n] = Math.min(inCorners[n]!, inCorners[n - size]! + blockMs(model, block, size));
		}
		least = Math.min(least, inCorners[n]! + blockMs(model, block, batch - n));
	}
	return least;
}

/** Per block the earliest end of any of its parts: its shortest part in the first window of any device that holds it, after all it waits for. */
export function earliestEnds(model: FillModel): Float64Array {
	const ends = new Float64Array(model.blocks.length);
	for (const [b, { before }] of model.blocks.entries()) {
		let ready = 0;
		for (const needed of before) ready = Math.max(ready, ends[needed]!);
		const shortest = shortestPart(model, b);
		let end = Number.POSITIVE_INFINITY;
		for (const windows of model.windows) {
			for (let i = 0; i < windows.starts.length; i++) {
				const start = Math.max(ready, windows.starts[i]!);
				if (start + shortest > windows.ends[i]! + model.eps) continue;
				end = Math.min(end, start + shortest);
				break;
			}
		}
		ends[b] = end;
	}
	return ends;
}

function shortestPart(model: FillModel, b: number): number {
	let shortest = Number.POSITIVE_INFINITY;
	for (let n = 1; n <= model.batch; n++) shortest = Math.min(shortest, blockMs(model, b, n));
	return shortest;
}
