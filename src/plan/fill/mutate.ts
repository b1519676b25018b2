/** @file Small changes to the runs of a filling: another device, another order, other cuts. */
import type { FillModel } from './model.ts';
import { below, type Draw } from './random.ts';
import type { Run } from './runs.ts';

/** A changed copy of `runs`, or undefined where the change makes no sense. `at` is the run it is about. */
export type Change = (model: FillModel, runs: readonly Run[], at: number, draw: Draw) => Run[] | undefined;

/** The changes, each as often as it stands here. */
export const changes: readonly Change[] = [
	toDevice,
	toDevice,
	reorder,
	reorder,
	cutBlocks,
	cutSamples,
	merge,
	moveBlockCut,
	resize,
	toggleCut,
	exchange,
	columnToDevice,
];

function replaced(runs: readonly Run[], at: number, ...by: Run[]): Run[] {
	const out = [...runs];
	out.splice(at, 1, ...by);
	return out;
}

function otherDevice({ devices }: FillModel, device: number, draw: Draw): number | undefined {
	if (devices < 2) return undefined;
	const other = below(draw, devices - 1);
	return other < device ? other : other + 1;
}

function toDevice(model: FillModel, runs: readonly Run[], at: number, draw: Draw): Run[] | undefined {
	const device = otherDevice(model, runs[at]!.device, draw);
	return device === undefined ? undefined : replaced(runs, at, { ...runs[at]!, device });
}

function reorder(_: FillModel, runs: readonly Run[], at: number, draw: Draw): Run[] | undefined {
	if (runs.length < 2) return undefined;
	const out = [...runs];
	const [run] = out.splice(at, 1);
	out.splice(below(draw, out.length + 1), 0, run!);
	return out;
}

/** The rest of the run's blocks on another device, or apart on the same. */
function cutBlocks(model: FillModel, runs: readonly Run[], at: number, draw: Draw): Run[] | undefined {
	const run = runs[at]!;
	if (run.end - run.first < 2) return undefined;
	const middle = run.first + 1 + below(draw, run.end - run.first - 1);
	const device = draw() < 0.7 ? (otherDevice(model, run.device, draw) ?? run.device) : run.device;
	const [head, tail] = [
		{ ...run, end: middle },
		{ ...run, first: middle },
	];
	return replaced(runs, at, ...(draw() < 0.5 ? [head, { ...tail, device }] : [{ ...head, device }, tail]));
}

/** Some of the run's samples apart, one of the two parts of a size of the model. */
function cutSamples(model: FillModel, runs: readonly Run[], at: number, draw: Draw): Run[] | undefined {
	const run = runs[at]!;
	const sizes = model.sizes.filter((size) => size < run.to - run.from);
	if (sizes.length === 0) return undefined;
	const size = sizes[below(draw, sizes.length)]!;
	const middle = draw() < 0.5 ? run.from + size : run.to - size;
	const device = draw() < 0.8 ? (otherDevice(model, run.device, draw) ?? run.device) : run.device;
	const parts = [
		{ ...run, to: middle },
		{ ...run, from: middle },
	];
	const moved = below(draw, 2);
	parts[moved] = { ...parts[moved]!, device };
	return replaced(runs, at, ...parts);
}

/** The run and its neighbour in blocks or samples as one. */
function merge(model: FillModel, runs: readonly Run[], at: number, draw: Draw): Run[] | undefined {
	const run = runs[at]!;
	const partners = [...runs.keys()].filter((i) => {
		const other = runs[i]!;
		return follows(model, run, other) || (other.from === run.to && other.first === run.first && other.end === run.end);
	});
	if (partners.length === 0) return undefined;
	const partner = partners[below(draw, partners.length)]!;
	const other = runs[partner]!;
	const device = draw() < 0.5 ? run.device : other.device;
	const out = replaced(runs, at, { ...run, end: other.end, to: other.to, device });
	out.splice(partner, 1);
	return out;
}

/** Whether `other` begins where `run` ends, in the same component and on the same samples. */
function follows({ blocks }: FillModel, run: Run, other: Run): boolean {
	if (other.first !== run.end || other.from !== run.from || other.to !== run.to) return false;
	return blocks[run.first]!.component === blocks[other.first]!.component;
}

/** The border between a run and what follows it on the same samples. */
function moveBlockCut(model: FillModel, runs: readonly Run[], at: number, draw: Draw): Run[] | undefined {
	const run = runs[at]!;
	const next = runs.findIndex((other) => follows(model, run, other));
	if (next < 0 || runs[next]!.end - run.first < 3) return undefined;
	const middle = run.first + 1 + below(draw, runs[next]!.end - run.first - 1);
	const out = replaced(runs, at, { ...run, end: middle });
	out[next] = { ...runs[next]!, first: middle };
	return out;
}

/** Samples from the run's part of the batch to another part: everything between moves over, so that all else keeps its size. */
function resize(model: FillModel, runs: readonly Run[], at: number, draw: Draw): Run[] | undefined {
	const run = runs[at]!;
	const other = runs[below(draw, runs.length)]!;
	if (other.from < run.to && run.from < other.to) return undefined;
	const count = model.sizes[below(draw, model.sizes.length)]!;
	if (count >= run.to - run.from) return undefined;
	const later = other.from >= run.to;
	const moved = (x: number): number => {
		if (later) return x <= run.to - count || x > other.from ? x : Math.max(x - count, run.to - count);
		return x >= run.from + count || x < other.to ? x : Math.min(x + count, run.from + count);
	};
	const out = runs.map((each) => ({ ...each, from: moved(each.from), to: moved(each.to) }));
	return out.every(({ from, to }) => from < to) ? out : undefined;
}

function toggleCut(_: FillModel, runs: readonly Run[], at: number): Run[] {
	return replaced(runs, at, { ...runs[at]!, cut: !runs[at]!.cut });
}

/** Two runs change devices. */
function exchange(_: FillModel, runs: readonly Run[], at: number, draw: Draw): Run[] | undefined {
	const other = below(draw, runs.length);
	if (runs[other]!.device === runs[at]!.device) return undefined;
	const out = replaced(runs, at, { ...runs[at]!, device: runs[other]!.device });
	out[other] = { ...runs[other]!, device: runs[at]!.device };
	return out;
}

/** All runs on the same samples go to one device. */
function columnToDevice(model: FillModel, runs: readonly Run[], at: number, draw: Draw): Run[] | undefined {
	const run = runs[at]!;
	const device = otherDevice(model, run.device, draw);
	if (device === undefined) return undefined;
	return runs.map((each) => (each.from === run.from && each.to === run.to ? { ...each, device } : each));
}
