/** @file Branch and bound for small problems: every cut, device and order, as far as the number of looks allows. */
import { blockMs, type FillModel } from './model.ts';
import type { Filling } from './result.ts';
import { addPiece, bring, emptyTimeline, undoMoves } from './timeline.ts';

/** Blocks x samples up to which it can be worth trying. */
const MOST = 32;

/** One way to go on. */
interface Step {
	readonly block: number;
	readonly from: number;
	readonly to: number;
	readonly device: number;
	readonly start: number;
}

export interface Exact {
	/** The best filling found that ends before the one known. */
	readonly filling?: Filling;
	/** Whether everything was tried. */
	readonly complete: boolean;
}

/**
 * Looks for fillings that end before `known`, with up to `looks` at one more piece; not at all when the problem is large. Pieces
 * are tried in order of their starts, each at the earliest time that its device, its inputs and idle time allow; what cannot end before the best so far
 * is cut off.
 */
export function exactFilling(model: FillModel, known: number, bound: number, looks: number): Exact {
	const { blocks, batch, devices, windows, problem, weights, eps, endMs } = model;
	if (blocks.length * batch > MOST) return { complete: false };
	const sizes = partSizes(model);
	const shortest = blocks.map((_, b) => Math.min(...sizes.map((size) => blockMs(model, b, size))));
	const rates = blocks.map((_, b) => Math.min(...sizes.map((size) => blockMs(model, b, size) / size)));
	const soonest = soonestEnds(model, shortest, known);
	const timeline = emptyTimeline(model);
	const { pieces } = timeline;
	const free = new Float64Array(devices);
	const left = weights.everywhere ? undefined : Float64Array.from(problem.freeBytes!);
	const held = new Int32Array(blocks.length * devices);
	/** Per block and sample, whether it has run. */
	const covered = new Uint8Array(blocks.length * batch);
	const counts = new Int32Array(blocks.length);
	let best = known;
	let found: Filling | undefined;
	let looked = 0;

	/** Whether what is left cannot end before the best so far when it starts no earlier than `now`. */
	const hopeless = (now: number): boolean => {
		let work = 0;
		for (let b = 0; b < blocks.length; b++) {
			const rest = batch - counts[b]!;
			if (rest === 0) continue;
			work += rest * rates[b]!;
			let ready = now;
			for (const needed of blocks[b]!.before) {
				for (const { from, to, end } of pieces[needed]!) if (end > ready && !isDone(b, from, to)) ready = end;
			}
			if (soonest(b, ready) > best - eps) return true;
		}
		let room = 0;
		for (let device = 0; device < devices; device++) {
			const from = Math.max(now, free[device]!);
			const { starts, ends } = windows[device]!;
			for (let i = 0; i < starts.length; i++) room += Math.max(0, Math.min(ends[i]!, best) - Math.max(starts[i]!, from));
		}
		return room < work - eps;
	};
	const isDone = (b: number, from: number, to: number): boolean => {
		for (let sample = from; sample < to; sample++) if (covered[b * batch + sample] === 0) return false;
		return true;
	};
	const isOpen = (b: number, from: number, to: number): boolean => {
		for (let sample = from; sample < to; sample++) if (covered[b * batch + sample] === 1) return false;
		return true;
	};
	const stepsFrom = (now: number): Step[] => {
		const steps: Step[] = [];
		// before anything is placed the batch is as good read backwards.
		const first = counts.every((count) => count === 0);
		for (let block = 0; block < blocks.length; block++) {
			for (const size of sizes) {
				const ms = blockMs(model, block, size);
				for (let from = 0; from + size <= batch; from++) {
					const to = from + size;
					if ((first && from > batch - to) || !isOpen(block, from, to)) continue;
					if (!blocks[block]!.before.every((needed) => isDone(needed, from, to))) continue;
					for (let device = 0; device < devices; device++) {
						if (left && held[block * devices + device] === 0 && left[device]! < blocks[block]!.paramBytes) continue;
						looked++;
						const moves = timeline.made.length;
						const start = startIn(model, device, Math.max(free[device]!, bring(timeline, block, from, to, device)), ms);
						undoMoves(timeline, moves);
						if (start >= now && start + ms < best - eps) steps.push({ block, from, to, device, start });
					}
				}
			}
		}
		return steps.sort((a, b) => a.start - b.start || b.to - b.from - (a.to - a.from));
	};
	const take = ({ block, from, to, device, start }: Step): (() => void) => {
		const [moves, freeBefore] = [timeline.made.length, free[device]!];
		bring(timeline, block, from, to, device);
		const { end } = addPiece(timeline, block, from, to, device, start);
		free[device] = end;
		covered.fill(1, block * batch + from, block * batch + to);
		counts[block]! += to - from;
		if (left && held[block * devices + device]!++ === 0) left[device]! -= blocks[block]!.paramBytes;
		return () => {
			if (left && --held[block * devices + device]! === 0) left[device]! += blocks[block]!.paramBytes;
			counts[block]! -= to - from;
			covered.fill(0, block * batch + from, block * batch + to);
			free[device] = freeBefore;
			pieces[block]!.pop();
			undoMoves(timeline, moves);
		};
	};
	const search = (rest: number, now: number, latest: number): void => {
		if (rest === 0) {
			best = Math.max(endMs, latest);
			found = { method: 'branch and bound', pieces: pieces.flat(), transfers: timeline.arrivals.flat() };
			return;
		}
		if (hopeless(now)) return;
		for (const step of stepsFrom(now)) {
			const ms = blockMs(model, step.block, step.to - step.from);
			if (step.start + ms > best - eps) continue;
			const undo = take(step);
			search(rest - (step.to - step.from), step.start, Math.max(latest, step.start + ms));
			undo();
			if (looked > looks || best <= bound + eps) return;
		}
	};
	search(blocks.length * batch, 0, 0);
	return { ...(found ? { filling: found } : {}), complete: looked <= looks };
}

/** The model's sizes and what remains of one, or of the batch, when others are taken off. */
function partSizes({ sizes, batch }: FillModel): number[] {
	// a set that grows while it is walked is walked to its end.
	const all = new Set([batch, ...sizes]);
	for (const size of all) for (const taken of sizes) if (size > taken) all.add(size - taken);
	return [...all];
}

/** The earliest start of `ms` on the device from `from` on. */
function startIn({ windows, eps }: FillModel, device: number, from: number, ms: number): number {
	const { starts, ends } = windows[device]!;
	let i = 0;
	while (Math.max(from, starts[i]!) + ms > ends[i]! + eps) i++;
	return Math.max(from, starts[i]!);
}

/** By block and time: the earliest end of all that depends on the block when it starts then or later, wherever (on a grid, so a little less). */
function soonestEnds(model: FillModel, shortest: readonly number[], known: number): (block: number, from: number) => number {
	const { blocks, devices } = model;
	const cells = 256;
	const step = known / cells;
	const cellOf = (time: number): number => Math.min(cells, Math.floor(time / step));
	const table = new Float64Array(blocks.length * (cells + 1));
	for (let b = blocks.length - 1; b >= 0; b--) {
		for (let cell = 0; cell <= cells; cell++) {
			let end = Number.POSITIVE_INFINITY;
			for (let device = 0; device < devices; device++) {
				end = Math.min(end, startIn(model, device, cell * step, shortest[b]!) + shortest[b]!);
			}
			let last = end;
			for (let next = b + 1; next < blocks.length; next++) {
				if (blocks[next]!.before.includes(b)) last = Math.max(last, table[next * (cells + 1) + cellOf(end)]!);
			}
			table[b * (cells + 1) + cell] = last;
		}
	}
	return (block, from) => table[block * (cells + 1) + cellOf(from)]!;
}
