/**
 * @file The greedy filling of DiffusionPipe (Tian et al. 2024, arXiv 2405.01248): idle intervals in order of time, each filled as far as it goes with
 * whole layers of components that are ready, then with one more layer on part of the batch.
 */
import { blockMs, type FillModel } from './model.ts';
import type { Filling } from './result.ts';
import { addPiece, bring, emptyTimeline, type Timeline, undoMoves } from './timeline.ts';
import { type Residency, residency } from './weights.ts';

/** Time in which the same devices are idle. */
interface Bubble {
	readonly start: number;
	readonly end: number;
	readonly devices: readonly number[];
}

/** How far every component is: samples [0, done) of block `next` of its chain have run. */
interface Progress {
	readonly timeline: Timeline;
	readonly held: Residency;
	readonly next: number[];
	readonly done: number[];
	/** Per device, when its last piece ends. */
	readonly free: Float64Array;
}

/** Counts of whole blocks by component, what they take, and a part of one more block that goes into what is left. */
interface Candidate {
	readonly counts: readonly number[];
	readonly ms: number;
	readonly partOf: number;
	/** Samples per device. */
	readonly part: number;
}

/** More candidates than this are not looked at in one interval. */
const MOST_CANDIDATES = 4096;

/**
 * In each bubble a layer runs on all devices that are idle, its samples split evenly over them. Candidates are all counts of next layers of the ready
 * components whose times fit one after another, each completed by the largest part of one more layer that fits the rest; the longest is taken. The
 * rest of such a layer comes first in later bubbles, and its successors wait for all of it. What fits no bubble runs after the flush on all devices.
 * Layers that come too late for their bubble because their input has to be moved are left for the next one.
 */
export function greedyFilling(model: FillModel): Filling {
	const { chains, devices } = model;
	const progress = {
		timeline: emptyTimeline(model),
		held: residency(model.weights, model.blocks),
		next: chains.map(() => 0),
		done: chains.map(() => 0),
		free: new Float64Array(devices),
	};
	for (const bubble of bubblesOf(model)) {
		// components that become ready within the bubble are candidates for the rest of it.
		let known: readonly number[] = [];
		for (let ready = readyOnes(progress); ready.some((c) => !known.includes(c)); ready = readyOnes(progress)) {
			fill(progress, bubble, ready);
			known = ready;
		}
	}
	const flush = { start: model.endMs, end: Number.POSITIVE_INFINITY, devices: Array.from({ length: devices }, (_, d) => d) };
	for (const c of model.order) while (progress.next[c]! < chains[c]!.length) runWhole(progress, c, flush);
	const { pieces, arrivals } = progress.timeline;
	return { method: 'greedy', pieces: pieces.flat(), transfers: arrivals.flat() };
}

/** Maximal intervals within the iteration in which one set of devices is idle. */
function bubblesOf({ windows, endMs, eps, problem: { shortestMs = 0 } }: FillModel): Bubble[] {
	const times = new Set<number>([endMs]);
	for (const { starts, ends } of windows) {
		for (const start of starts) times.add(start);
		for (const end of ends) if (end < endMs) times.add(end);
	}
	const sorted = [...times].filter((time) => time <= endMs).sort((a, b) => a - b);
	const bubbles: Bubble[] = [];
	const at = windows.map(() => 0);
	for (let i = 0; i + 1 < sorted.length; i++) {
		const [start, end] = [sorted[i]!, sorted[i + 1]!];
		const devices = windows.flatMap(({ starts, ends }, device) => {
			while (ends[at[device]!]! <= start) at[device]!++;
			return starts[at[device]!]! <= start ? [device] : [];
		});
		if (devices.length > 0 && end - start > eps && end - start >= shortestMs) bubbles.push({ start, end, devices });
	}
	return bubbles;
}

/** Puts the best candidate of the ready components into the bubble. */
function fill(progress: Progress, bubble: Bubble, ready: readonly number[]): void {
	const left = bubble.end - Math.max(bubble.start, ...bubble.devices.map((device) => progress.free[device]!));
	const best = bestCandidate(progress, bubble, ready, left);
	if (!best) return;
	for (const [i, c] of ready.entries()) {
		for (let k = 0; k < best.counts[i]! && runWhole(progress, c, bubble); k++);
	}
	if (best.part > 0) runPart(progress, ready[best.partOf]!, best.part, bubble);
}

/** Components with blocks left whose inputs from other components are complete. */
function readyOnes({ timeline, next }: Progress): number[] {
	const { chains, blocks, order } = timeline.model;
	const complete = (b: number) => next[blocks[b]!.component]! === chains[blocks[b]!.component]!.length;
	return order.filter((c) => {
		const block = chains[c]![next[c]!];
		return block !== undefined && (next[c]! > 0 || blocks[block]!.before.every(complete));
	});
}

function bestCandidate(progress: Progress, bubble: Bubble, ready: readonly number[], left: number): Candidate | undefined {
	const { model } = progress.timeline;
	const counts = ready.map(() => 0);
	let best: Candidate | undefined;
	let looked = 0;
	/** Time of the block `k` blocks after the next one of the i-th ready component, on all idle devices; infinite past its end. */
	const wholeMs = (i: number, k: number): number => {
		const c = ready[i]!;
		const block = model.chains[c]![progress.next[c]! + k];
		if (block === undefined) return Number.POSITIVE_INFINITY;
		const devices = runners(progress, block, bubble).length;
		if (devices === 0) return Number.POSITIVE_INFINITY;
		return blockMs(model, block, Math.ceil((model.batch - (k === 0 ? progress.done[c]! : 0)) / devices));
	};
	const consider = (ms: number): void => {
		looked++;
		let [partOf, part, partMs] = [-1, 0, 0];
		for (const [i, c] of ready.entries()) {
			const block = model.chains[c]![progress.next[c]! + counts[i]!];
			if (block === undefined) continue;
			const devices = runners(progress, block, bubble).length;
			const rest = model.batch - (counts[i] === 0 ? progress.done[c]! : 0);
			for (const size of model.sizes) {
				const took = blockMs(model, block, size);
				if (size * devices >= rest || took > left - ms + model.eps) break;
				if (took > partMs) [partOf, part, partMs] = [i, size, took];
			}
		}
		if (ms + partMs > (best?.ms ?? 0)) best = { counts: [...counts], ms: ms + partMs, partOf, part };
	};
	const choose = (i: number, ms: number): void => {
		if (looked >= MOST_CANDIDATES) return;
		if (i === ready.length) {
			consider(ms);
			return;
		}
		// of the last component only the most that fits can be the longest.
		let total = ms;
		for (counts[i] = 0; ; counts[i]!++) {
			const more = wholeMs(i, counts[i]!);
			const fits = total + more <= left + model.eps;
			if (i < ready.length - 1 || !fits) choose(i + 1, total);
			if (!fits) break;
			total += more;
		}
		counts[i] = 0;
	};
	choose(0, 0);
	return best;
}

/** Idle devices that hold the block or have room for it. */
function runners({ timeline, held }: Progress, block: number, { devices }: Bubble): readonly number[] {
	return timeline.model.weights.everywhere ? devices : devices.filter((device) => held.mayRun(block, device));
}

/** Runs the rest of the component's next block, split evenly; false when it does not fit the bubble. */
function runWhole(progress: Progress, c: number, bubble: Bubble): boolean {
	const { chains, batch } = progress.timeline.model;
	const devices = runners(progress, chains[c]![progress.next[c]!]!, bubble);
	const rest = batch - progress.done[c]!;
	const used = devices.slice(0, rest);
	const sizes = used.map((_, i) => Math.floor(rest / used.length) + (i < rest % used.length ? 1 : 0));
	if (!run(progress, c, used, sizes, bubble)) return false;
	progress.next[c]!++;
	progress.done[c] = 0;
	return true;
}

/** Runs the component's next block on `size` samples per device; false when it does not fit the bubble. */
function runPart(progress: Progress, c: number, size: number, bubble: Bubble): boolean {
	const { chains, batch } = progress.timeline.model;
	const block = chains[c]![progress.next[c]!];
	if (block === undefined) return false;
	const devices = runners(progress, block, bubble);
	if (size * devices.length >= batch - progress.done[c]!) return false;
	const sizes = devices.map(() => size);
	if (!run(progress, c, devices, sizes, bubble)) return false;
	progress.done[c]! += size * devices.length;
	return true;
}

function run(progress: Progress, c: number, devices: readonly number[], sizes: readonly number[], bubble: Bubble): boolean {
	const { timeline, held, free, next, done } = progress;
	const { model } = timeline;
	const block = model.chains[c]![next[c]!]!;
	if (devices.length === 0) return false;
	const spans = devices.map((device, i) => {
		const from = done[c]! + sizes.slice(0, i).reduce((sum, size) => sum + size, 0);
		return { device, from, to: from + sizes[i]! };
	});
	const before = timeline.made.length;
	const starts: number[] = [];
	for (const { device, from, to } of spans) {
		const start = Math.max(bubble.start, free[device]!, bring(timeline, block, from, to, device));
		if (start + blockMs(model, block, to - from) > bubble.end + model.eps) {
			undoMoves(timeline, before);
			return false;
		}
		starts.push(start);
	}
	for (const [i, { device, from, to }] of spans.entries()) {
		free[device] = addPiece(timeline, block, from, to, device, starts[i]!).end;
		held.add(block, device);
	}
	return true;
}
