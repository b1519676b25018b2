/** @file Puts runs into the idle time that is left, one after another: the core of every search, so it reuses its memory and allocates next to nothing. */
import type { FillModel } from './model.ts';
import type { Run } from './runs.ts';
import type { Piece, Transfer } from './timeline.ts';

/** The output of a run on samples [from, to) on another device from `end` on. */
interface Arrival {
	readonly device: number;
	readonly from: number;
	readonly to: number;
	readonly end: number;
}

interface Busy {
	readonly start: number;
	readonly end: number;
}

/** What was made, where `place` is asked to tell. */
export interface Made {
	readonly pieces: Piece[];
	readonly transfers: Transfer[];
}

export interface Placer {
	/** Forgets everything placed and takes these runs as those that will be; with `homes`, every block's home keeps room for it. */
	begin(runs: readonly Run[], homes?: boolean): void;
	/** Adds a run that is to be placed; returns its number. */
	add(run: Run): number;
	/** When such a run would end on `device`, all that it waits for having been placed; infinite where its weights do not fit. */
	endOn(run: Run, device: number): number;
	/** Places run `r` on its device, what it waits for before it. */
	place(r: number, made?: Made): void;
	/** When run `r` ends; negative until it is placed. */
	endOf(r: number): number;
	/** The end of the last run so far, at least the model's `endMs`; infinite when weights do not fit where they were placed. */
	iterationMs(): number;
	/** Mean over devices of the time for which they work after the flush. */
	overflowMs(): number;
	/** Runs and windows looked at since the placer was made: a measure of work that does not depend on the machine. */
	steps(): number;
}

/** A placer for `model`, with nothing placed. Its tables of sums and idle windows are made once and used by every placing. */
export function placerOf(model: FillModel): Placer {
	const { blocks, batch, devices, windows, endMs, eps, sizes, problem, weights } = model;
	const width = blocks.length + 1;
	/** ms of blocks 0 .. b-1 on n samples at [n * width + b]. */
	const sums = new Float64Array((batch + 1) * width);
	for (let n = 0; n <= batch; n++) {
		for (let b = 0; b < blocks.length; b++) sums[n * width + b + 1] = sums[n * width + b]! + model.times[b * (batch + 1) + n]!;
	}
	const weighed = !weights.everywhere;
	const held = new Uint8Array(weighed ? devices * blocks.length : 0);
	const left = new Float64Array(devices);
	const lastEnds = new Float64Array(devices);
	const gaps = windows.map(({ starts }) => ({
		starts: new Float64Array(2 * starts.length + 64),
		ends: new Float64Array(2 * starts.length + 64),
		count: 0,
	}));
	let runs: Run[] = [];
	let ends = new Float64Array(256);
	/** Runs by the block that they end with, chained. */
	const lastWith = new Int32Array(blocks.length);
	let sameEnd = new Int32Array(256);
	let arrivals: (Arrival[] | undefined)[] = [];
	let links = new Map<number, Busy[]>();
	let fits = true;
	let steps = 0;

	const begin = (all: readonly Run[], homes = false): void => {
		runs = [];
		steps += devices;
		lastWith.fill(-1);
		lastEnds.fill(0);
		if (arrivals.length > 0) {
			arrivals = [];
			links = new Map();
		}
		if (weighed) {
			fits = true;
			held.fill(0);
			left.set(homes ? weights.spare : problem.freeBytes!);
			if (homes) for (const [b, device] of weights.home.entries()) held[device * blocks.length + b] = 1;
		}
		for (const [device, { starts, ends: stops }] of windows.entries()) {
			const own = gaps[device]!;
			own.starts.set(starts);
			own.ends.set(stops);
			own.count = starts.length;
		}
		for (const run of all) add(run);
	};

	const add = (run: Run): number => {
		const r = runs.push(run) - 1;
		if (r >= ends.length) {
			ends = grown(ends);
			const longer = new Int32Array(2 * sameEnd.length);
			longer.set(sameEnd);
			sameEnd = longer;
		}
		ends[r] = -1;
		sameEnd[r] = lastWith[run.end - 1]!;
		lastWith[run.end - 1] = r;
		return r;
	};

	/** When the output of run `source` on samples [from, to) is on `device`; the move is made unless `dry`. */
	const arrivalOf = (source: number, from: number, to: number, device: number, dry: boolean, made?: Made): number => {
		const run = runs[source]!;
		const known = arrivals[source]?.find((other) => other.device === device && other.from <= from && other.to >= to);
		if (known) return known.end;
		const ms = problem.transferMs(blocks[run.end - 1]!.outputBytes * (to - from), run.device, device);
		const key = run.device * devices + device;
		const link = links.get(key) ?? [];
		let start = ends[source]!;
		let at = 0;
		for (; at < link.length && link[at]!.start - start < ms; at++) start = Math.max(start, link[at]!.end);
		const end = start + ms;
		if (dry) return end;
		if (link.length === 0) links.set(key, link);
		link.splice(at, 0, { start, end });
		arrivals[source] ??= [];
		arrivals[source]!.push({ device, from, to, end });
		made?.transfers.push({ block: run.end - 1, from, to, device, source: run.device, start, end });
		return end;
	};

	/** When all that the run waits for is on `device`. */
	const readyOn = ({ first, from, to }: Run, device: number, dry: boolean, made?: Made): number => {
		let ready = 0;
		for (const needed of blocks[first]!.before) {
			for (let source = lastWith[needed]!; source >= 0; source = sameEnd[source]!) {
				const other = runs[source]!;
				if (other.from >= to || other.to <= from) continue;
				if (ends[source]! < 0) place(source, made);
				const at =
					other.device === device
						? ends[source]!
						: arrivalOf(source, Math.max(from, other.from), Math.min(to, other.to), device, dry, made);
				if (at > ready) ready = at;
			}
		}
		return ready;
	};

	/** Bytes of the run's blocks that are not on the device yet. */
	const missingBytes = ({ first, end }: Run, device: number, hold: boolean): number => {
		let bytes = 0;
		for (let b = first; b < end; b++) {
			if (held[device * blocks.length + b] === 1) continue;
			bytes += blocks[b]!.paramBytes;
			if (hold) held[device * blocks.length + b] = 1;
		}
		return bytes;
	};

	const endOn = (run: Run, device: number): number => {
		if (weighed && missingBytes(run, device, false) > left[device]!) return Number.POSITIVE_INFINITY;
		return fill(run, device, readyOn(run, device, true), true);
	};

	const place = (r: number, made?: Made): void => {
		const run = runs[r]!;
		const { device } = run;
		const ready = readyOn(run, device, false, made);
		if (weighed) {
			left[device]! -= missingBytes(run, device, true);
			if (left[device]! < 0) fits = false;
		}
		const end = fill(run, device, ready, false, made);
		ends[r] = end;
		if (end > lastEnds[device]!) lastEnds[device] = end;
	};

	/** Puts the run into the gaps of `device` from `ready` on; returns when its last block ends. */
	const fill = ({ first, end, from, to, cut }: Run, device: number, ready: number, dry: boolean, made?: Made): number => {
		const own = gaps[device]!;
		const samples = to - from;
		const whole = samples * width;
		let block = first;
		// samples of `block` that have run already.
		let done = 0;
		let now = ready;
		steps++;
		for (let gap = firstGap(own, ready); block < end; gap++) {
			steps++;
			const stop = own.ends[gap]! + eps;
			const start = Math.max(own.starts[gap]!, now);
			const [blockBefore, doneBefore] = [block, done];
			let at = start;
			if (done > 0) {
				const rest = (samples - done) * width + block;
				const ms = sums[rest + 1]! - sums[rest]!;
				if (at + ms <= stop) {
					made?.pieces.push({ block, from: from + done, to, device, start: at, end: at + ms });
					at += ms;
					block++;
					done = 0;
				}
			}
			if (done === 0) {
				const base = sums[whole + block]! - at;
				let next = block;
				if (sums[whole + end]! - base <= stop) next = end;
				else while (sums[whole + next + 1]! - base <= stop) next++;
				if (made) {
					for (let b = block; b < next; b++) {
						made.pieces.push({ block: b, from, to, device, start: sums[whole + b]! - base, end: sums[whole + b + 1]! - base });
					}
				}
				at = sums[whole + next]! - base;
				block = next;
			}
			if (cut && block < end) {
				let part = 0;
				for (const size of sizes) {
					if (size >= samples - done || at + sums[size * width + block + 1]! - sums[size * width + block]! > stop) break;
					part = size;
				}
				if (part > 0) {
					const ms = sums[part * width + block + 1]! - sums[part * width + block]!;
					made?.pieces.push({ block, from: from + done, to: from + done + part, device, start: at, end: at + ms });
					at += ms;
					done += part;
				}
			}
			if (block === blockBefore && done === doneBefore) continue;
			now = at;
			if (!dry && at > start) gap = take(gaps, device, gap, start, at, eps);
		}
		return now;
	};

	return {
		begin,
		add,
		endOn,
		place,
		endOf: (r) => ends[r]!,
		iterationMs: () => (fits ? lastEnds.reduce((last, at) => Math.max(last, at), endMs) : Number.POSITIVE_INFINITY),
		overflowMs: () => lastEnds.reduce((sum, at) => sum + Math.max(0, at - endMs), 0) / devices,
		steps: () => steps,
	};
}

interface Gaps {
	starts: Float64Array<ArrayBuffer>;
	ends: Float64Array<ArrayBuffer>;
	count: number;
}

/** The first gap that ends after `ready`. */
function firstGap({ ends, count }: Gaps, ready: number): number {
	let [low, high] = [0, count - 1];
	while (low < high) {
		const middle = (low + high) >> 1;
		if (ends[middle]! <= ready) low = middle + 1;
		else high = middle;
	}
	return low;
}

/** Takes [start, end) out of a gap; returns the last gap that ends by then or has nothing more to give. */
function take(gaps: Gaps[], device: number, gap: number, start: number, end: number, eps: number): number {
	const own = gaps[device]!;
	const before = start > own.starts[gap]! + eps;
	const behind = end < own.ends[gap]! - eps;
	if (before && behind) {
		if (own.count === own.starts.length) {
			own.starts = grown(own.starts);
			own.ends = grown(own.ends);
		}
		own.starts.copyWithin(gap + 1, gap, own.count);
		own.ends.copyWithin(gap + 1, gap, own.count);
		own.count++;
		own.ends[gap] = start;
		own.starts[gap + 1] = end;
		return gap + 1;
	}
	if (before) {
		own.ends[gap] = start;
		return gap;
	}
	if (behind) {
		own.starts[gap] = end;
		return gap;
	}
	own.starts.copyWithin(gap, gap + 1, own.count);
	own.ends.copyWithin(gap, gap + 1, own.count);
	own.count--;
	return gap - 1;
}

function grown(values: Float64Array<ArrayBuffer>): Float64Array<ArrayBuffer> {
	const longer = new Float64Array(2 * values.length);
	longer.set(values);
	return longer;
}
