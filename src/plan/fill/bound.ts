/** @file What no filling can beat: idle time against work, and the longest chain of dependencies. */
import { blockMs, type FillModel, type Windows } from './model.ts';

/** Least device time of every block on the whole batch, what both bounds start from. */
export function leastWork(model: FillModel): number[] {
	return model.blocks.map((_, b) => leastWorkOf(model, b));
}

/** ms; the iteration with the frozen work in it is at least this long, whatever the part sizes. */
export function lowerBound(model: FillModel, least: readonly number[]): number {
	return Math.max(model.endMs, capacityBound(model, least), earliestEnd(model));
}

/**
 * The least time by which idle time can hold the work. Work is counted in ms at each block's best part sizes. A window that ends, or is cut off by the
 * time asked for, holds only parts that are no longer than itself, so at most its length times the best yield (work done per ms) among those.
 */
function capacityBound(model: FillModel, least: readonly number[]): number {
	const { windows, endMs } = model;
	const work = least.reduce((sum, ms) => sum + ms, 0);
	const yieldIn = bestYield(model, least);
	const whole = windows.map(({ starts, ends }) => Array.from(starts, (start, i) => ({ start, end: ends[i]!, holds: 0 })));
	for (const span of whole.flat())
		if (span.end < Number.POSITIVE_INFINITY) span.holds = (span.end - span.start) * yieldIn(span.end - span.start);
	const holds = (until: number): number => {
		let sum = 0;
		for (const own of whole) {
			for (const { start, end, holds: all } of own) {
				if (end <= until) sum += all;
				else if (start < until) sum += (until - start) * yieldIn(until - start);
			}
		}
		return sum;
	};
	if (holds(endMs) >= work) return endMs;
	let [low, high] = [endMs, endMs + work];
	for (let more = work; holds(high) < work; more *= 2) [low, high] = [high, high + more];
	for (let i = 0; i < 40 && high - low > model.eps; i++) {
		const middle = (low + high) / 2;
		if (holds(middle) >= work) high = middle;
		else low = middle;
	}
	return low;
}

/**
 * Large parts save work but make a sample's way through a chain of blocks long, and it can only go on while some device is idle. With t(n) the time of a
 * block on n samples, and samples of it done in parts of n, the way takes t(n) and the work t(n) / n per sample. By Lagrangian duality, for any price p of
 * a ms of way: work >= samples * (sum over the chain of min over n of (t(n) / n + p t(n)) - p * time with an idle device) + least work off the chain.
 * The bound is the largest over some prices of the least time at which idle time holds that much.
 */
export function chainBound(model: FillModel, least: readonly number[]): number {
	const { batch, blocks, endMs, eps } = model;
	const chain = heaviestChain(model, least);
	let off = 0;
	for (let b = 0; b < blocks.length; b++) if (!chain.has(b)) off += least[b]!;
	const some = union(model.windows);
	const corners = cornersOf(model);
	let bound = endMs;
	for (let price = 0.5; price > 0.05 / (batch * batch); price /= 2) {
		let sum = 0;
		for (const b of chain) sum += leastPriced(model, b, corners, price);
		const holds = (until: number): boolean =>
			idleUntil(model.windows, until) + batch * price * idleUntil([some], until) >= off + batch * sum;
		if (holds(bound)) continue;
		let [low, high] = [bound, bound + off + batch * sum];
		for (let i = 0; i < 50 && high - low > eps; i++) {
			const middle = (low + high) / 2;
			if (holds(middle)) high = middle;
			else low = middle;
		}
		bound = low;
	}
	return bound;
}

/** Numbers of samples between which all times are linear. */
function cornersOf({ batch, problem }: FillModel): number[] {
	return [...new Set([1, ...problem.batchSizes.filter((size) => size < batch), batch])].sort((a, b) => a - b);
}

/** The least of t(n) / n + price t(n) over 1 <= n <= batch: with t(n) = a + s n between two corners it is at one of them or at sqrt(a / (price s)). */
function leastPriced(model: FillModel, block: number, corners: readonly number[], price: number): number {
	let best = Number.POSITIVE_INFINITY;
	let [n, ms] = [0, 0];
	for (const corner of corners) {
		const next = blockMs(model, block, corner);
		best = Math.min(best, next * (1 / corner + price));
		if (n > 0) {
			const slope = (next - ms) / (corner - n);
			const fixed = ms - slope * n;
			const inner = Math.sqrt(fixed / (price * slope));
			if (inner > n && inner < corner) best = Math.min(best, (fixed + slope * inner) * (1 / inner + price));
		}
		[n, ms] = [corner, next];
	}
	return best;
}

/** The blocks of the path through the components with most work. */
function heaviestChain({ blocks }: FillModel, least: readonly number[]): Set<number> {
	const weight = least.slice();
	const from = blocks.map(() => -1);
	for (const [b, { before }] of blocks.entries()) {
		for (const needed of before) if (from[b]! < 0 || weight[needed]! > weight[from[b]!]!) from[b] = needed;
		if (from[b]! >= 0) weight[b]! += weight[from[b]!]!;
	}
	const chain = new Set<number>();
	for (let b = weight.indexOf(Math.max(...weight)); b >= 0; b = from[b]!) chain.add(b);
	return chain;
}

/** When any device is idle. */
function union(windows: readonly Windows[]): Windows {
	const spans = windows.flatMap(({ starts, ends }) => Array.from(starts, (start, i) => ({ start, end: ends[i]! })));
	const merged: { start: number; end: number }[] = [];
	for (const { start, end } of spans.sort((a, b) => a.start - b.start)) {
		const last = merged.at(-1);
		if (last && start <= last.end) last.end = Math.max(last.end, end);
		else merged.push({ start, end });
	}
	return { starts: Float64Array.from(merged, ({ start }) => start), ends: Float64Array.from(merged, ({ end }) => end) };
}

/** Idle ms up to a time, over all devices. */
function idleUntil(windows: readonly Windows[], until: number): number {
	let sum = 0;
	for (const { starts, ends } of windows) {
		for (let i = 0; i < starts.length && starts[i]! < until; i++) sum += Math.min(ends[i]!, until) - starts[i]!;
	}
	return sum;
}

/** By length in ms: the most work done per ms by any part of any block that is no longer than that; at most 1. */
function bestYield(model: FillModel, least: readonly number[]): (length: number) => number {
	const { batch, blocks } = model;
	const corners = cornersOf(model);
	const known = new Map<number, number>();
	return (length) => {
		const before = known.get(length);
		if (before !== undefined) return before;
		let best = 0;
		for (let b = 0; b < blocks.length && best < 1 - 1e-12; b++) {
			const perSample = least[b]! / batch;
			// time is linear between corners, so yield is greatest at a corner or where a part takes all of the length.
			let [n, ms] = [0, 0];
			for (const corner of corners) {
				const next = blockMs(model, b, corner);
				if (next <= length) best = Math.max(best, next > 0 ? (corner * perSample) / next : 1);
				else if (ms < length) best = Math.max(best, ((n + ((corner - n) * (length - ms)) / (next - ms)) * perSample) / length);
				[n, ms] = [corner, next];
			}
		}
		best = best < 1 - 1e-12 ? best : 1;
		known.set(length, best);
		return best;
	};
}

/**
 * Least device time of a block on the whole batch, in parts of any size. Time is linear between the profile's sizes, so of two parts between sizes one
 * could grow at the other's cost: at most one part has a size of its own.
 */
function leastWorkOf(model: FillModel, block: number): number {
	const { batch } = model;
	const corners = model.problem.batchSizes.filter((size) => size <= batch);
	const rates = corners.map((size) => blockMs(model, block, size) / size);
	const rate = Math.min(...rates, blockMs(model, block, batch) / batch);
	if (batch % (corners[rates.indexOf(rate)] ?? batch) === 0) return batch * rate;
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

/** The earliest end of everything: each block's shortest part in the first window of any device that is long enough, after all it waits for. */
function earliestEnd(model: FillModel): number {
	const ends = new Float64Array(model.blocks.length);
	const corners = cornersOf(model);
	let last = 0;
	for (const [b, { before }] of model.blocks.entries()) {
		let ready = 0;
		for (const needed of before) ready = Math.max(ready, ends[needed]!);
		const shortest = corners.reduce((least, n) => Math.min(least, blockMs(model, b, n)), Number.POSITIVE_INFINITY);
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
		last = Math.max(last, end);
	}
	return last;
}
