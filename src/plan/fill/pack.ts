/** @file One device's share of the batch packed into its idle time: nothing leaves the device, so only the order and the cuts matter. */
import { blockMs, type FillModel } from './model.ts';
import type { Piece } from './timeline.ts';

/** A component on one part of the share. */
interface Track {
	readonly from: number;
	readonly to: number;
	readonly chain: readonly number[];
	/** Tracks of the same part that must be complete first. */
	readonly after: readonly Track[];
	next: number;
	/** Samples from `from` that have run through block `next` already. */
	done: number;
	/** Time that is left, with every block in one piece. */
	left: number;
}

export interface Pack {
	readonly pieces: Piece[];
	/** 0 without any work. */
	readonly end: number;
}

/** Whole blocks by track, then part of one. */
interface Closing {
	counts: number[];
	partOf: number;
	part: number;
	value: number;
}

/**
 * Runs all blocks on the parts of samples on one device. While a window has room for several blocks, the track with most left goes on; towards its end the
 * counts of next blocks that use it up best are searched (at most `looks` of them), with part of one more block where that fits.
 */
export function packDevice(model: FillModel, device: number, parts: readonly (readonly [number, number])[], looks: number): Pack {
	const tracks = tracksOf(model, parts);
	const { starts, ends } = model.windows[device]!;
	const pieces: Piece[] = [];
	let now = 0;
	const run = (track: Track, samples: number): void => {
		const block = track.chain[track.next]!;
		const from = track.from + track.done;
		const rest = track.to - from;
		const end = now + blockMs(model, block, samples);
		pieces.push({ block, from, to: from + samples, device, start: now, end });
		now = end;
		track.left -= blockMs(model, block, rest) - blockMs(model, block, rest - samples);
		track.done = samples === rest ? 0 : track.done + samples;
		if (samples === rest) track.next++;
	};
	let open = tracks;
	for (let window = 0; window < starts.length && open.length > 0; window++) {
		now = starts[window]!;
		const end = ends[window]! + model.eps;
		for (;;) {
			open = open.filter((track) => track.next < track.chain.length);
			const ready = open.filter(isReady);
			if (ready.length === 0) break;
			const longest = mostLeft(ready);
			if (end - now >= 3 * nextMs(model, longest)) {
				run(longest, restOf(longest));
				continue;
			}
			const best = bestClosing(model, ready, end - now, looks);
			for (const [i, count] of best.counts.entries()) for (let k = 0; k < count; k++) run(ready[i]!, restOf(ready[i]!));
			if (best.part > 0) run(ready[best.partOf]!, best.part);
			if (best.part > 0 || best.counts.every((count) => count === 0)) break;
		}
	}
	return { pieces, end: pieces.at(-1)?.end ?? 0 };
}

function tracksOf(model: FillModel, parts: readonly (readonly [number, number])[]): Track[] {
	return parts.flatMap(([from, to]) => {
		const own = new Map<number, Track>();
		for (const c of model.order) {
			const chain = model.chains[c]!;
			if (chain.length === 0) continue;
			const after = model.blocks[chain[0]!]!.before.map((b) => own.get(model.blocks[b]!.component)!);
			const left = chain.reduce((sum, b) => sum + blockMs(model, b, to - from), 0);
			own.set(c, { from, to, chain, after, next: 0, done: 0, left });
		}
		return [...own.values()];
	});
}

function isReady({ next, after }: Track): boolean {
	return next > 0 || after.every((track) => track.next === track.chain.length);
}

function restOf({ from, to, done }: Track): number {
	return to - from - done;
}

function nextMs(model: FillModel, track: Track): number {
	return blockMs(model, track.chain[track.next]!, restOf(track));
}

function mostLeft(tracks: readonly Track[]): Track {
	let best = tracks[0]!;
	for (const track of tracks) if (track.left > best.left) best = track;
	return best;
}

/** The counts, and the part of one more block, that take most off the work in `room` ms. */
function bestClosing(model: FillModel, ready: readonly Track[], room: number, looks: number): Closing {
	const counts = ready.map(() => 0);
	const best: Closing = { counts: [...counts], partOf: -1, part: 0, value: 0 };
	let looked = 0;
	const consider = (used: number): void => {
		looked++;
		let [partOf, part, gain] = [-1, 0, 0];
		// a part can add no more than the room that is left.
		if (room > best.value) {
			for (const [i, track] of ready.entries()) {
				const block = track.chain[track.next + counts[i]!];
				if (block === undefined) continue;
				const rest = counts[i] === 0 ? restOf(track) : track.to - track.from;
				const whole = blockMs(model, block, rest);
				for (const size of model.sizes) {
					if (size >= rest || blockMs(model, block, size) > room - used) break;
					const took = whole - blockMs(model, block, rest - size);
					if (took > gain) [partOf, part, gain] = [i, size, took];
				}
			}
		}
		if (used + gain <= best.value) return;
		best.counts = [...counts];
		best.partOf = partOf;
		best.part = part;
		best.value = used + gain;
	};
	const choose = (i: number, used: number): void => {
		if (looked >= looks) return;
		if (i === ready.length) {
			consider(used);
			return;
		}
		const track = ready[i]!;
		let total = used;
		for (counts[i] = 0; ; counts[i]!++) {
			const block = track.chain[track.next + counts[i]!];
			const ms =
				block === undefined
					? Number.POSITIVE_INFINITY
					: counts[i] === 0
						? nextMs(model, track)
						: blockMs(model, block, track.to - track.from);
			const fits = total + ms <= room;
			// of the last track only the most that fits can be best.
			if (i < ready.length - 1 || !fits) choose(i + 1, total);
			if (!fits) break;
			total += ms;
		}
		counts[i] = 0;
	};
	choose(0, 0);
	return best;
}
