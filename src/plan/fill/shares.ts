/** @file Filling by shares: every device runs all frozen layers on its own samples, as many as its idle time has room for, so that nothing is moved. */
import { blockMs, type FillModel } from './model.ts';
import { type Pack, packDevice } from './pack.ts';
import type { Filling } from './result.ts';

/** How a number of samples is best cut into parts. */
export interface Cuts {
	/** ms of all blocks on n samples. */
	readonly ms: Float64Array;
	/** The first part of n samples. */
	readonly part: Int32Array;
	/** 1 where the part sizes do not add up to n, so that one part has a size of its own. */
	readonly odd: Uint8Array;
}

/** Least time of the whole frozen work on 0 .. batch samples in parts of the model's sizes. */
export function bestCuts(model: FillModel): Cuts {
	const { batch, sizes, blocks } = model;
	const whole = new Float64Array(batch + 1);
	for (let b = 0; b < blocks.length; b++) for (let n = 1; n <= batch; n++) whole[n]! += blockMs(model, b, n);
	const ms = new Float64Array(batch + 1);
	const part = new Int32Array(batch + 1);
	const odd = new Uint8Array(batch + 1);
	for (let n = 1; n <= batch; n++) {
		for (const size of sizes) {
			if (size > n) break;
			if (odd[n - size] === 1 || (part[n]! > 0 && ms[n - size]! + whole[size]! > ms[n]!)) continue;
			part[n] = size;
			ms[n] = ms[n - size]! + whole[size]!;
		}
		if (part[n]! > 0) continue;
		// the odd part stands first, what adds up follows.
		odd[n] = 1;
		part[n] = n;
		ms[n] = whole[n]!;
		for (let rest = 1; rest < n; rest++) {
			if (odd[n - rest] === 1 || ms[n - rest]! + whole[rest]! >= ms[n]!) continue;
			part[n] = rest;
			ms[n] = ms[n - rest]! + whole[rest]!;
		}
	}
	return { ms, part, odd };
}

/**
 * Shares in proportion to idle time up to the least time at which they add up to the batch, then samples handed from the device that ends last to others
 * while that helps. Undefined when no device holds all weights. `looks` and `packs` bound the effort.
 */
export function sharesFilling(model: FillModel, looks: number, packs: number): Filling | undefined {
	const { weights, batch, endMs, eps } = model;
	const runners = weights.holdsAll;
	if (runners.length === 0) return undefined;
	const cuts = bestCuts(model);
	const shares = firstShares(model, cuts, runners);
	const pack = (i: number, n: number): Pack => packDevice(model, runners[i]!, partsOf(cuts, n), looks);
	const packed = shares.map((n, i) => pack(i, n));
	const oddAfter = (i: number, n: number, j: number, m: number): number =>
		shares.reduce((sum, share, k) => sum + cuts.odd[k === i ? n : k === j ? m : share]!, 0);
	let left = packs;
	for (let improved = true; improved && left > 0; ) {
		improved = false;
		const last = argMax(packed.map(({ end }) => end));
		const end = packed[last]!.end;
		if (end <= endMs + eps) break;
		const others = [...packed.keys()].filter((i) => i !== last).sort((a, b) => packed[a]!.end - packed[b]!.end);
		search: for (const size of stepsOf(model, cuts)) {
			const fewer = shares[last]! - size;
			if (fewer < 0) continue;
			for (const other of others.slice(0, 3)) {
				const more = shares[other]! + size;
				if (more > batch || left <= 0 || oddAfter(last, fewer, other, more) > 1) continue;
				left--;
				const theirs = pack(other, more);
				if (theirs.end >= end - eps) continue;
				left--;
				const ours = pack(last, fewer);
				if (ours.end >= end - eps) continue;
				[packed[last], packed[other], shares[last], shares[other]] = [ours, theirs, fewer, more];
				improved = true;
				break search;
			}
		}
	}
	let at = 0;
	const pieces = packed.flatMap(({ pieces: own }, i) => {
		const from = at;
		at += shares[i]!;
		return own.map((piece) => ({ ...piece, from: piece.from + from, to: piece.to + from }));
	});
	return { method: 'shares', pieces, transfers: [] };
}

/** Numbers of samples worth handing over: part sizes and differences of neighbouring ones, small ones first. */
function stepsOf({ sizes }: FillModel, { ms }: Cuts): number[] {
	const steps = new Set(sizes);
	for (let i = 1; i < sizes.length; i++) steps.add(sizes[i]! - sizes[i - 1]!);
	return [...steps].filter((n) => n > 0 && n < ms.length).sort((a, b) => a - b);
}

/** [from, to) of the parts of `n` samples, largest first. */
function partsOf({ part }: Cuts, n: number): [number, number][] {
	const sizes: number[] = [];
	for (let rest = n; rest > 0; rest -= part[rest]!) sizes.push(part[rest]!);
	let at = 0;
	return sizes
		.sort((a, b) => b - a)
		.map((size) => {
			at += size;
			return [at - size, at];
		});
}

/** Samples per runner, adding up to the batch. */
function firstShares(model: FillModel, cuts: Cuts, runners: readonly number[]): number[] {
	const { batch, endMs } = model;
	const within = (until: number): number[] => runners.map((device) => mostSamples(cuts, idleUntil(model, device, until)));
	const enough = (shares: readonly number[]): boolean => shares.reduce((sum, n) => sum + n, 0) >= batch;
	let [low, high] = [endMs, endMs];
	for (let more = cuts.ms[batch]! / runners.length; !enough(within(high)); more *= 2) [low, high] = [high, high + more];
	for (let i = 0; i < 20 && high - low > 1e-4 * high; i++) {
		const middle = (low + high) / 2;
		if (enough(within(middle))) high = middle;
		else low = middle;
	}
	const shares = within(high);
	const room = runners.map((device) => idleUntil(model, device, high));
	// what is too much is taken where it relieves most, by the smallest steps there are; the last step may leave an odd part.
	for (let extra = shares.reduce((sum, n) => sum + n, 0) - batch; extra > 0; ) {
		let [best, load] = [0, -1];
		for (const [i, n] of shares.entries()) {
			const relative = cuts.ms[n]! / Math.max(room[i]!, 1e-9);
			if (n > 0 && relative > load) [best, load] = [i, relative];
		}
		let less = shares[best]! - 1;
		while (cuts.odd[less] === 1) less--;
		less = Math.max(less, shares[best]! - extra);
		extra -= shares[best]! - less;
		shares[best] = less;
	}
	return shares;
}

/** The most samples, without an odd part, whose work takes no more than `room` ms. */
function mostSamples({ ms, odd }: Cuts, room: number): number {
	let n = ms.length - 1;
	while (n > 0 && (odd[n] === 1 || ms[n]! > room)) n--;
	return n;
}

/** Idle ms of a device up to a time. */
function idleUntil({ windows }: FillModel, device: number, until: number): number {
	const { starts, ends } = windows[device]!;
	let sum = 0;
	for (let i = 0; i < starts.length; i++) sum += Math.max(0, Math.min(ends[i]!, until) - starts[i]!);
	return sum;
}

function argMax(values: readonly number[]): number {
	return values.reduce((best, value, i) => (value > values[best]! ? i : best), 0);
}
