/** @file The best filling of a small problem by trying everything, for comparison. */
import type { FillProblem } from '../../../src/plan/fill/types.ts';
import { timeAt } from '../../../src/plan/profile/times.ts';

export interface Exhaustive {
	/** The least iteration, or the given one when nothing is better. */
	readonly iterationMs: number;
	/** False when the search was given up. */
	readonly complete: boolean;
}

/** A layer on some samples on one device. */
interface Made {
	readonly device: number;
	/** A bit per sample. */
	readonly samples: number;
	readonly end: number;
}

/**
 * The least iteration over all cuts of every layer's samples into parts (of the profile's sizes, those of the batch split evenly, and what remains of such
 * a part or the batch when others are taken off), all devices and all orders, if below `known`. Two things are taken lighter than they are, so that the
 * answer may be below what is possible, never above: parts may be any samples, not only neighbours (then samples that have fared alike so far are
 * alike, and one choice among them is enough), and moves never wait for one another.
 *
 * Items are tried in order of their starts, each at the earliest time at which its device is done with the items before, its inputs are there and it
 * fits an idle interval. That is enough: take any filling and, item by item in order of start, move each to the earliest such time. It moves no later,
 * since what was before it on its device and what it depends on has moved no later; so the filling ends no later, and it is one that is tried, up to the
 * order of starts after the moving, in which it is tried as well. Cut off is only what cannot end before the best known: too little idle time is left
 * for the work at its best part sizes, or too little time for the layers that depend on one another at their shortest.
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
	const sizes = partSizesOf(problem);
	const layers = components.flatMap(({ name, after, layers: own }) =>
		own.map((layer, index) => ({ name, index, layer, last: index === own.length - 1, after })),
	);
	const before = layers.map(({ index, after }, l) =>
		index > 0 ? [l - 1] : layers.flatMap((other, o) => (other.last && after.includes(other.name) ? [o] : [])),
	);
	const ms = layers.map(({ layer }) => Array.from({ length: batch + 1 }, (_, n) => timeAt(batchSizes, layer.forwardMs, n)));
	const shortest = ms.map((own) => Math.min(...sizes.map((size) => own[size]!)));
	const rate = ms.map((own) => Math.min(...sizes.map((size) => own[size]! / size)));

	/** The earliest start of `time` ms from `from` on on the device. */
	const startIn = (device: number, from: number, time: number): number => {
		for (const { start, end } of windows[device]!) if (Math.max(from, start) + time <= end) return Math.max(from, start);
		return Number.POSITIVE_INFINITY;
	};
	/** By layer and whole ms t: the earliest end of all that depends on the layer when it starts at t or later, wherever. */
	const horizon = Math.ceil(known) + 1;
	const soonest = layers.map(() => new Float64Array(horizon + 1));
	for (let l = layers.length - 1; l >= 0; l--) {
		for (let t = 0; t <= horizon; t++) {
			const end = Math.min(...windows.map((_, device) => startIn(device, t, shortest[l]!))) + shortest[l]!;
			let last = end;
			for (let next = l + 1; next < layers.length; next++) {
				if (before[next]!.includes(l)) last = Math.max(last, soonest[next]![Math.min(horizon, Math.floor(end))]!);
			}
			soonest[l]![t] = last;
		}
	}

	/** Per layer what has been made of it, and of which samples. */
	const made: Made[][] = layers.map(() => []);
	const covered = layers.map(() => 0);
	const free = Array<number>(devices).fill(0);
	const held = layers.map(() => Array<boolean>(devices).fill(false));
	const bytes = [...(freeBytes ?? Array<number>(devices).fill(Number.POSITIVE_INFINITY))];
	let best = known;
	let visited = 0;

	const readyOn = (l: number, samples: number, device: number): number => {
		let ready = 0;
		for (const b of before[l]!) {
			if ((samples & ~covered[b]!) !== 0) return Number.POSITIVE_INFINITY;
			for (const piece of made[b]!) {
				const shared = ones(piece.samples & samples);
				if (shared > 0) ready = Math.max(ready, piece.end + transferMs(layers[b]!.layer.outputBytes * shared, piece.device, device));
			}
		}
		return ready;
	};
	/** Whether what is left cannot end before `best` when it starts no earlier than `now`. */
	const hopeless = (now: number): boolean => {
		let work = 0;
		let least = Number.POSITIVE_INFINITY;
		for (let l = 0; l < layers.length; l++) {
			const left = batch - ones(covered[l]!);
			if (left === 0) continue;
			work += left * rate[l]!;
			least = Math.min(least, shortest[l]!);
			let ready = now;
			for (const b of before[l]!) {
				for (const { samples, end } of made[b]!) if (end > ready && (samples & ~covered[l]!) !== 0) ready = end;
			}
			if (ready >= best || soonest[l]![Math.floor(ready)]! >= best) return true;
		}
		let room = 0;
		for (let device = 0; device < devices; device++) {
			const from = Math.max(now, free[device]!);
			for (const { start, end } of windows[device]!) {
				const length = Math.min(end, best) - Math.max(start, from);
				if (length >= least) room += length;
			}
		}
		return room <= work - 1e-9;
	};
	const search = (left: number, now: number, latest: number, lastDevice: number): void => {
		visited++;
		if (visited > nodes) return;
		if (left === 0) {
			best = Math.min(best, Math.max(endMs, latest));
			return;
		}
		if (hopeless(now)) return;
		for (let l = 0; l < layers.length; l++) {
			if (covered[l] === 2 ** batch - 1) continue;
			const before = layers.map((_, b) => made[b]!);
			for (const samples of choices(batch, covered[l]!, before, sizes)) {
				const time = ms[l]![ones(samples)]!;
				for (let device = 0; device < devices; device++) {
					if (!held[l]![device] && bytes[device]! < layers[l]!.layer.paramBytes) continue;
					const start = startIn(device, Math.max(free[device]!, readyOn(l, samples, device)), time);
					const end = start + time;
					// of items that start together the one on the lower device comes first.
					if (start < now || (start === now && device < lastDevice) || end >= best) continue;
					const [freeBefore, heldBefore] = [free[device]!, held[l]![device]!];
					made[l]!.push({ device, samples, end });
					covered[l]! |= samples;
					free[device] = end;
					held[l]![device] = true;
					if (!heldBefore) bytes[device]! -= layers[l]!.layer.paramBytes;
					search(left - ones(samples), start, Math.max(latest, end), device);
					made[l]!.pop();
					covered[l]! &= ~samples;
					free[device] = freeBefore;
					held[l]![device] = heldBefore;
					if (!heldBefore) bytes[device]! += layers[l]!.layer.paramBytes;
					if (best <= endMs || visited > nodes) return;
				}
			}
		}
	};
	if (known > endMs) search(layers.length * batch, 0, 0, -1);
	return { iterationMs: best, complete: visited <= nodes };
}

/** The sets of samples, of the given sizes and not `covered`, that differ when samples found in the same pieces so far are alike. */
function choices(batch: number, covered: number, made: readonly Made[][], sizes: readonly number[]): number[] {
	// samples are alike when every piece holds both or neither; of those that are, the lower ones are taken first.
	const twin = Array.from({ length: batch }, (_, sample) => {
		for (let other = sample - 1; other >= 0; other--) {
			if (made.every((pieces) => pieces.every(({ samples }) => ((samples >> sample) & 1) === ((samples >> other) & 1)))) return other;
		}
		return -1;
	});
	const out: number[] = [];
	for (let set = 2 ** batch - 1; set > 0; set--) {
		if ((set & covered) !== 0 || !sizes.includes(ones(set))) continue;
		if (twin.every((other, sample) => other < 0 || ((set >> sample) & 1) === 0 || ((set >> other) & 1) === 1)) out.push(set);
	}
	return out;
}

function ones(bits: number): number {
	let count = 0;
	for (let rest = bits; rest > 0; rest &= rest - 1) count++;
	return count;
}

/** Sizes that parts may have. */
function partSizesOf({ batchSizes, batch, idle }: FillProblem): number[] {
	const sizes = new Set(batchSizes.filter((size) => size <= batch));
	for (let device = 1; device <= Math.min(idle.length, batch); device++) {
		sizes.add(Math.floor(batch / device));
		sizes.add(Math.ceil(batch / device));
	}
	// a set that grows while it is walked is walked to its end.
	const all = new Set([batch, ...sizes]);
	for (const size of all) for (const taken of sizes) if (size > taken) all.add(size - taken);
	return [...all];
}
