/** @file Fillings by list scheduling: each component in parts of one size, each part's blocks in segments, each segment where it ends first. */
import { blockMs, type FillModel } from './model.ts';
import type { Placer } from './placer.ts';
import { below, drawsOf } from './random.ts';
import type { Run } from './runs.ts';

/** How a filling is composed. */
export interface Recipe {
	/** Per component, samples per part; the last part has what remains. */
	readonly sizes: readonly number[];
	/** After this share of a component's time its parts are cut into `late` parts each, for devices that are idle together only towards the end. */
	readonly turn: number;
	readonly late: number;
	/** Into how many pieces of about equal time the blocks of a part are cut. */
	readonly segments: number;
	/** Whether blocks that do not fit what is left of a window run on part of their samples there. */
	readonly cut: boolean;
	/** Whether every block's home keeps room for its weights; without, they may find none in the end. */
	readonly homes: boolean;
}

export interface Composition {
	readonly recipe: Recipe;
	readonly runs: readonly Run[];
	readonly iterationMs: number;
	readonly overflowMs: number;
}

/** Some blocks of a component on one part of the batch. */
interface Track {
	readonly from: number;
	readonly to: number;
	/** Blocks at which the segments begin, and the end. */
	readonly cuts: number[];
	/** Tracks that must be complete first. */
	readonly after: readonly Track[];
	/** Time from the start of each segment to the end of the last component that depends on it. */
	readonly tails: number[];
	next: number;
	device: number;
}

/**
 * Composes by a recipe: of the segments whose inputs are placed, the one with the longest way to go (highest level first, Hu 1961) goes to the device on
 * which it ends first, at a tie to that of the segment before. Undefined where weights fit no more.
 */
export function compose(model: FillModel, placer: Placer, recipe: Recipe): Composition | undefined {
	const tracks = tracksOf(model, recipe);
	const runs: Run[] = [];
	placer.begin([], recipe.homes);
	for (;;) {
		let best: Track | undefined;
		for (const track of tracks) {
			if (track.next >= track.tails.length) continue;
			if (best && track.tails[track.next]! <= best.tails[best.next]!) continue;
			if (track.next > 0 || track.after.every((other) => other.next === other.tails.length)) best = track;
		}
		if (!best) break;
		const { from, to, cuts, next } = best;
		let run = { first: cuts[next]!, end: cuts[next + 1]!, from, to, device: best.device, cut: recipe.cut };
		let device = bestDevice(model, placer, run);
		// where no device has room for all of a segment, as much of it as one has room for comes first.
		while (device === undefined && run.end > run.first + 1) {
			run = { ...run, end: run.end - 1 };
			device = bestDevice(model, placer, run);
		}
		if (device === undefined) return undefined;
		if (run.end < cuts[next + 1]!) {
			cuts.splice(next + 1, 0, run.end);
			best.tails.splice(next + 1, 0, best.tails[next]!);
		}
		run = { ...run, device };
		placer.place(placer.add(run));
		runs.push(run);
		best.device = device;
		best.next++;
	}
	return { recipe, runs, iterationMs: placer.iterationMs(), overflowMs: placer.overflowMs() };
}

/** Where the run ends first, the device that it has at a tie; undefined when its weights fit nowhere. */
function bestDevice({ devices, eps }: FillModel, placer: Placer, run: Run): number | undefined {
	let [best, end] = [run.device, placer.endOn(run, run.device)];
	for (let device = 0; device < devices; device++) {
		if (device === run.device) continue;
		const theirs = placer.endOn(run, device);
		if (theirs < end - eps) [best, end] = [device, theirs];
	}
	return end === Number.POSITIVE_INFINITY ? undefined : best;
}

function tracksOf(model: FillModel, { sizes, segments, turn, late }: Recipe): Track[] {
	const { order, chains, blocks, batch, devices } = model;
	const tracks: Track[] = [];
	/** By component, the tracks that have its last block. */
	const lastOf: Track[][] = chains.map(() => []);
	/** The longest way from the end of a component on one sample, by component. */
	const beyond = chains.map(() => 0);
	for (const c of [...order].reverse()) {
		const chain = chains[c]!;
		if (chain.length === 0) continue;
		const size = Math.min(sizes[c]!, batch);
		const whole = chain.reduce((sum, b) => sum + blockMs(model, b, size), 0);
		for (const needed of blocks[chain[0]!]!.before) {
			const other = blocks[needed]!.component;
			beyond[other] = Math.max(beyond[other]!, beyond[c]! + whole);
		}
	}
	const add = (chain: readonly number[], share: number, from: number, to: number, before: readonly Track[], beyondMs: number): Track => {
		const cuts = segmentCuts(model, chain, to - from, Math.ceil(segments * share));
		let tail = beyondMs;
		const tails: number[] = [];
		for (let s = cuts.length - 2; s >= 0; s--) {
			for (let b = cuts[s]!; b < cuts[s + 1]!; b++) tail += blockMs(model, b, to - from);
			tails.unshift(tail);
		}
		const after = before.filter((other) => other.from < to && other.to > from);
		const track = { from, to, cuts, after, tails, next: 0, device: tracks.length % devices };
		tracks.push(track);
		return track;
	};
	for (const c of order) {
		const chain = chains[c]!;
		if (chain.length === 0) continue;
		const before = blocks[chain[0]!]!.before.flatMap((b) => lastOf[blocks[b]!.component]!);
		const size = sizes[c]!;
		const lateSize = late > 1 ? (model.sizes.findLast((other) => other * late <= size) ?? size) : size;
		const middle = lateSize < size ? blockAt(model, chain, size, turn) : chain.at(-1)! + 1;
		const head = chain.filter((b) => b < middle);
		const rest = chain.filter((b) => b >= middle);
		const restMs = rest.reduce((sum, b) => sum + blockMs(model, b, lateSize), 0);
		for (let from = 0; from < batch; from += size) {
			const to = Math.min(batch, from + size);
			const whole = add(head, rest.length > 0 ? turn : 1, from, to, before, beyond[c]! + restMs);
			if (rest.length === 0) lastOf[c]!.push(whole);
			else
				for (let at = from; at < to; at += lateSize)
					lastOf[c]!.push(add(rest, 1 - turn, at, Math.min(to, at + lateSize), [whole], beyond[c]!));
		}
	}
	return tracks;
}

/** The block of the chain, not its first, before which about `share` of its time has passed. */
function blockAt(model: FillModel, chain: readonly number[], samples: number, share: number): number {
	const whole = chain.reduce((sum, b) => sum + blockMs(model, b, samples), 0);
	let sum = 0;
	for (const b of chain) {
		if (b > chain[0]! && sum + blockMs(model, b, samples) / 2 > whole * share) return b;
		sum += blockMs(model, b, samples);
	}
	return chain.at(-1)! + 1;
}

/** Where up to `segments` pieces of about equal time begin, and the end of the chain. */
function segmentCuts(model: FillModel, chain: readonly number[], samples: number, segments: number): number[] {
	const whole = chain.reduce((sum, b) => sum + blockMs(model, b, samples), 0);
	const cuts = [chain[0]!];
	let sum = 0;
	for (const b of chain) {
		if (b > cuts.at(-1)! && sum + blockMs(model, b, samples) / 2 > (whole * cuts.length) / segments && cuts.length < segments) cuts.push(b);
		sum += blockMs(model, b, samples);
	}
	return [...cuts, chain.at(-1)! + 1];
}

/** Numbers of segments that are tried. */
const SEGMENTS = [1, 2, 3, 5, 8, 12];
/** Turns that are tried, and into how many parts. */
const TURNS = [0.3, 0.5, 0.65, 0.8, 0.9];
const LATE = [1, 2, 3, 4];

/** About what a composition takes: every segment looks at most windows of every device. */
function stepsFor({ batch, chains, windows }: FillModel, { sizes, segments, late }: Recipe): number {
	const spans = windows.reduce((sum, { starts }) => sum + starts.length, 0);
	return (
		chains.reduce((sum, { length }, c) => sum + (length > 0 ? Math.ceil(batch / sizes[c]!) * Math.min(segments, length) * late : 0), 0) *
		spans
	);
}

/** What every size is tried with first. */
const SHAPES = [
	{ turn: 1, late: 1, segments: 1 },
	{ turn: 0.8, late: 2, segments: 8 },
	{ turn: 1, late: 1, segments: 8 },
	{ turn: 0.8, late: 2, segments: 1 },
];

/**
 * The best few compositions within `steps` of the placer: first one size for all components, those near a device's even share of the batch before others,
 * then from the best other sizes, one component at a time, and other ways to cut, then random changes to the best, until the bound is met.
 */
export function composeBest(model: FillModel, placer: Placer, bound: number, steps: number, keep: number): Composition[] {
	const until = placer.steps() + steps;
	const seen = new Set<string>();
	let best: Composition[] = [];
	const done = (): boolean => placer.steps() >= until || (best[0]?.iterationMs ?? Number.POSITIVE_INFINITY) <= bound + model.eps;
	/** Whether the recipe leads the list now. */
	const attempt = (recipe: Recipe): boolean => {
		const key = JSON.stringify(recipe);
		if (seen.has(key) || done() || placer.steps() + stepsFor(model, recipe) > until) return false;
		seen.add(key);
		const found = compose(model, placer, recipe);
		if (!found) return false;
		best = [...best, found].sort((a, b) => a.iterationMs - b.iterationMs || a.overflowMs - b.overflowMs).slice(0, keep);
		return best[0] === found;
	};
	const homes = !model.weights.everywhere;
	const sizes = [...model.sizes].reverse().filter((size) => model.batch / size <= 4 * model.devices);
	const share = model.batch / model.devices;
	const farther = (a: number, b: number): number => Math.abs(Math.log(a / share)) - Math.abs(Math.log(b / share));
	const main = sizes.filter((size) => model.problem.batchSizes.includes(size) || size === Math.ceil(share) || size === model.batch);
	for (const shape of SHAPES) {
		for (const size of main.sort(farther)) attempt({ ...shape, sizes: model.chains.map(() => size), cut: true, homes });
	}
	const variants = ({ recipe }: Composition): Recipe[] => [
		{ ...recipe, cut: !recipe.cut },
		...(homes ? [{ ...recipe, homes: !recipe.homes }] : []),
		...SEGMENTS.map((segments) => ({ ...recipe, segments })),
		...TURNS.map((turn) => ({ ...recipe, turn, late: Math.max(2, recipe.late) })),
		...recipe.sizes.flatMap((_, c) => sizes.map((size) => ({ ...recipe, sizes: recipe.sizes.with(c, size) }))),
	];
	for (let more = true; more && best[0]; ) {
		more = false;
		for (const recipe of variants(best[0])) if (attempt(recipe)) more = true;
	}
	const draw = drawsOf('filling, recipes');
	const changed = ({ recipe }: Composition): Recipe => ({
		sizes: recipe.sizes.map((size) => (draw() < 0.5 ? sizes[below(draw, sizes.length)]! : size)),
		...(draw() < 0.5
			? { turn: TURNS[below(draw, TURNS.length)]!, late: LATE[below(draw, LATE.length)]! }
			: { turn: recipe.turn, late: recipe.late }),
		segments: draw() < 0.5 ? SEGMENTS[below(draw, SEGMENTS.length)]! : recipe.segments,
		cut: draw() < 0.2 ? !recipe.cut : recipe.cut,
		homes: homes && draw() < 0.5,
	});
	// most draws are known, or too dear for what is left, once little is left to try.
	for (let idle = 0; best[0] && !done() && idle < 100; ) {
		const known = seen.size;
		attempt(changed(best[0]));
		idle = seen.size === known ? idle + 1 : 0;
	}
	return best;
}
