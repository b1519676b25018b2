/** @file The best filling of a small problem by trying everything, for comparison. */

import type { FillProblem } from '../../../src/plan/fill/types.ts';
import { timeAt } from '../../../src/plan/profile/times.ts';

export interface Exhaustive {
	/** The least iteration, or the given one when nothing is better. */
	readonly iterationMs: number;
	/** False when the search was given up. */
	readonly complete: boolean;
}

/**
 * The least iteration over all cuts of every layer's samples into parts of any size, all devices and all orders, if below `known`. Moves are taken never
 * to wait for one another, so that the answer may be below what is possible, never above.
 *
 * Items are tried in order of their starts, each at the earliest time at which its device is done with the items before, its inputs are there and it
 * fits an idle interval. That is enough: take any filling and, item by item in order of start, move each to the earliest such time. It moves no later,
 * since what was before it on its device and what it depends on has moved no later; so the filling ends no later, and it is one that is tried, up to the
 * order of starts after the moving, in which it is tried as well.
 */
export function exhaustiveFill(problem: FillProblem, known: number, nodes = Number.POSITIVE_INFINITY): Exhaustive {
	const { batch, batchSizes, components, idle, endMs, transferMs, freeBytes } = problem;
	const devices = idle.length;
	const windows = idle.map((own) => {
		const last = own.at(-1);
		return last?.end === endMs
			? [...own.slice(0, -1), { start: last.start, end: Number.POSITIVE_INFINITY }]
			: [...own, { start: endMs, end: Number.POSITIVE_INFINITY }];
	});
	const layers = components.flatMap(({ name, after, layers: own }) =>
		own.map((layer, index) => ({ name, index, layer, last: index === own.length - 1, after })),
	);
	const before = layers.map(({ index, after }, l) =>
		index > 0 ? [l - 1] : layers.flatMap((other, o) => (other.last && after.includes(other.name) ? [o] : [])),
	);
	const ms = layers.map(({ layer }) => Array.from({ length: batch + 1 }, (_, n) => timeAt(batchSizes, layer.forwardMs, n)));
	const shortest = ms.map((own) => Math.min(...own.slice(1)));
	const rate = ms.map((own) => Math.min(...own.slice(1).map((time, i) => time / (i + 1))));
	/** From the start of a layer on a sample to the end of all that depends on it, at least. */
	const tail = layers.map(() => 0);
	for (let l = layers.length - 1; l >= 0; l--) {
		tail[l]! += shortest[l]!;
		for (const b of before[l]!) tail[b] = Math.max(tail[b]!, tail[l]!);
	}
	/** Per layer and sample the piece that has it. */
	const piece: ({ device: number; from: number; to: number; end: number } | undefined)[][] = layers.map(() => Array(batch).fill(undefined));
	const free = Array<number>(devices).fill(0);
	const held = layers.map(() => Array<boolean>(devices).fill(false));
	const bytes = [...(freeBytes ?? Array<number>(devices).fill(Number.POSITIVE_INFINITY))];
	let best = known;
	let visited = 0;

	const readyOn = (l: number, from: number, to: number, device: number): number => {
		let ready = 0;
		for (const b of before[l]!) {
			for (let sample = from; sample < to; sample++) {
				const made = piece[b]![sample];
				if (!made) return Number.POSITIVE_INFINITY;
				const shared = Math.min(to, made.to) - Math.max(from, made.from);
				ready = Math.max(ready, made.end + transferMs(layers[b]!.layer.outputBytes * shared, made.device, device));
			}
		}
		return ready;
	};
	/** The earliest start of `time` ms on the device from `ready` on, after its items. */
	const startOn = (device: number, ready: number, time: number): number => {
		const from = Math.max(ready, free[device]!);
		for (const { start, end } of windows[device]!) if (Math.max(from, start) + time <= end) return Math.max(from, start);
		return Number.POSITIVE_INFINITY;
	};
	/** Whether what is left cannot end before `best` when it starts no earlier than `now`. */
	const hopeless = (now: number): boolean => {
		let work = 0;
		for (let l = 0; l < layers.length; l++) {
			for (let sample = 0; sample < batch; sample++) {
				if (piece[l]![sample]) continue;
				work += rate[l]!;
				if (now + tail[l]! >= best) return true;
				for (const b of before[l]!) {
					const made = piece[b]![sample];
					if (made && made.end + tail[l]! >= best) return true;
				}
			}
		}
		let room = 0;
		for (let device = 0; device < devices; device++) {
			const from = Math.max(now, free[device]!);
			for (const { start, end } of windows[device]!) room += Math.max(0, Math.min(end, best) - Math.max(start, from));
		}
		return room < work - 1e-9;
	};
	const search = (left: number, now: number, latest: number): void => {
		visited++;
		if (visited > nodes) return;
		if (left === 0) {
			best = Math.min(best, Math.max(endMs, latest));
			return;
		}
		if (hopeless(now)) return;
		for (let l = 0; l < layers.length; l++) {
			for (let from = 0; from < batch; from++) {
				if (piece[l]![from]) continue;
				for (let to = from + 1; to <= batch && !piece[l]![to - 1]; to++) {
					for (let device = 0; device < devices; device++) {
						const time = ms[l]![to - from]!;
						const start = startOn(device, readyOn(l, from, to, device), time);
						const end = start + time;
						if (start < now || end >= best || (!held[l]![device] && bytes[device]! < layers[l]!.layer.paramBytes)) continue;
						const made = { device, from, to, end };
						for (let sample = from; sample < to; sample++) piece[l]![sample] = made;
						const [freeBefore, heldBefore] = [free[device]!, held[l]![device]!];
						free[device] = end;
						held[l]![device] = true;
						if (!heldBefore) bytes[device]! -= layers[l]!.layer.paramBytes;
						search(left - (to - from), start, Math.max(latest, end));
						free[device] = freeBefore;
						held[l]![device] = heldBefore;
						if (!heldBefore) bytes[device]! += layers[l]!.layer.paramBytes;
						for (let sample = from; sample < to; sample++) piece[l]![sample] = undefined;
						if (best <= endMs) return;
					}
				}
			}
		}
	};
	if (known > endMs) search(layers.length * batch, 0, 0);
	return { iterationMs: best, complete: visited <= nodes };
}
