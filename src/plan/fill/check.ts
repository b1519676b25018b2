/** @file Whether a filling does what it must and only what it may, told from the problem alone. */
import { DiffusionPipeError } from '../../core/errors.ts';
import { timeAt } from '../profile/times.ts';
import type { FillItem, FillMove, FillProblem, FillResult } from './types.ts';

/**
 * Throws an input error naming the first item or move at fault unless: every sample of every layer runs exactly once, on a device that is idle and runs
 * nothing else meanwhile, for as long as the profile says, after what it depends on has run there or been moved there; moves start after what they carry
 * was made, take the time of the link and follow one another on it; the weights of what runs on a device fit there; the figures agree with the items.
 */
export function checkFill(problem: FillProblem, result: FillResult): void {
	const tolerance = 1e-6 * Math.max(1e-3, problem.endMs);
	for (const item of result.items) checkItem(problem, item, tolerance);
	for (const move of result.moves) checkMove(problem, result, move, tolerance);
	checkOnce(problem, result);
	checkInputs(problem, result, tolerance);
	apart(result.items, (item) => `device ${item.device}`, itemPlace, 'two items at one time on one device', tolerance);
	apart(result.moves, (move) => `${move.from} to ${move.to}`, movePlace, 'two moves at one time on one link', tolerance);
	checkWeights(problem, result);
	checkFigures(problem, result, tolerance);
}

function layerOf({ components }: FillProblem, { component, layer }: { component: string; layer: number }, place: string) {
	const found = components.find(({ name }) => name === component)?.layers[layer];
	if (!found)
		throw fault('no such layer', place, `a layer of ${components.map(({ name }) => name).join(', ')}`, `${component}, layer ${layer}`);
	return found;
}

function checkItem(problem: FillProblem, item: FillItem, tolerance: number): void {
	const place = itemPlace(item);
	const { device, startMs, endMs, samples } = item;
	const layer = layerOf(problem, item, place);
	const [from, to] = samples;
	if (!(Number.isInteger(from) && Number.isInteger(to) && from >= 0 && from < to && to <= problem.batch)) {
		throw fault('samples outside the batch', place, `[from, to) within [0, ${problem.batch})`, `[${from}, ${to})`);
	}
	const ms = timeAt(problem.batchSizes, layer.forwardMs, to - from);
	if (!(Math.abs(endMs - startMs - ms) <= tolerance)) throw fault('not the time of this layer', place, `${ms} ms`, `${endMs - startMs} ms`);
	const idle = problem.idle[device];
	if (!idle) throw fault('no such device', place, `0 to ${problem.idle.length - 1}`, String(device));
	const last = idle.at(-1);
	const open = last && last.end >= problem.endMs - tolerance ? last.start : problem.endMs;
	const inside = startMs >= open - tolerance || idle.some(({ start, end }) => startMs >= start - tolerance && endMs <= end + tolerance);
	if (!inside) throw fault('the device is not idle', place, 'one idle interval around it', `[${startMs}, ${endMs}]`);
}

function checkMove(problem: FillProblem, { items }: FillResult, move: FillMove, tolerance: number): void {
	const place = movePlace(move);
	const { from, to, startMs, endMs, samples } = move;
	const layer = layerOf(problem, move, place);
	const ms = problem.transferMs(layer.outputBytes * (samples[1] - samples[0]), from, to);
	if (!(Math.abs(endMs - startMs - ms) <= tolerance))
		throw fault('not the time of this transfer', place, `${ms} ms`, `${endMs - startMs} ms`);
	const made = items.filter(({ device, component, layer: at }) => device === from && component === move.component && at === move.layer);
	for (let sample = samples[0]; sample < samples[1]; sample++) {
		const ready = made.some((item) => item.samples[0] <= sample && sample < item.samples[1] && item.endMs <= startMs + tolerance);
		if (!ready) throw fault('moved before it is made', place, `sample ${sample} made on device ${from} by ${startMs} ms`, 'no such item');
	}
}

function checkOnce({ components, batch }: FillProblem, { items }: FillResult): void {
	for (const { name, layers } of components) {
		for (const layer of layers.keys()) {
			const own = items.filter((item) => item.component === name && item.layer === layer).sort((a, b) => a.samples[0] - b.samples[0]);
			let at = 0;
			for (const item of own) {
				const [from, to] = item.samples;
				if (from !== at)
					throw fault(from < at ? 'samples run twice' : 'samples left out', itemPlace(item), `from sample ${at}`, `from sample ${from}`);
				at = to;
			}
			if (at < batch) throw fault('samples left out', `${name}, layer ${layer}`, `all ${batch} samples`, `samples up to ${at}`);
		}
	}
}

/** Every sample of every input is on the item's device when it starts. */
function checkInputs({ components }: FillProblem, { items, moves }: FillResult, tolerance: number): void {
	const inputsOf = (name: string, layer: number): [string, number][] => {
		if (layer > 0) return [[name, layer - 1]];
		return components
			.find((component) => component.name === name)!
			.after.flatMap((other) => {
				const last = components.find((component) => component.name === other)!.layers.length - 1;
				return last < 0 ? inputsOf(other, 0) : [[other, last] as [string, number]];
			});
	};
	const made = new Map<string, (FillItem | FillMove)[]>();
	const note = (device: number, entry: FillItem | FillMove): void => {
		const key = `${device} ${entry.layer} ${entry.component}`;
		made.set(key, [...(made.get(key) ?? []), entry]);
	};
	for (const item of items) note(item.device, item);
	for (const move of moves) note(move.to, move);
	for (const item of items) {
		for (const [name, layer] of inputsOf(item.component, item.layer)) {
			const there = (made.get(`${item.device} ${layer} ${name}`) ?? []).filter(({ endMs }) => endMs <= item.startMs + tolerance);
			for (let sample = item.samples[0]; sample < item.samples[1]; sample++) {
				if (there.some(({ samples }) => samples[0] <= sample && sample < samples[1])) continue;
				throw fault(
					'input not there',
					itemPlace(item),
					`${name}, layer ${layer} on sample ${sample} by ${item.startMs} ms`,
					'no item or move',
				);
			}
		}
	}
}

/** Nothing of one group begins before what came before it has ended. What takes no time occupies nothing, so it may lie within another. */
function apart<T extends FillItem | FillMove>(
	all: readonly T[],
	groupOf: (entry: T) => string,
	placeOf: (entry: T) => string,
	what: string,
	tolerance: number,
): void {
	const groups = new Map<string, T[]>();
	for (const entry of all) {
		if (entry.endMs - entry.startMs <= tolerance) continue;
		const group = groups.get(groupOf(entry));
		if (group) group.push(entry);
		else groups.set(groupOf(entry), [entry]);
	}
	for (const group of groups.values()) {
		group.sort((a, b) => a.startMs - b.startMs || a.endMs - b.endMs);
		for (const [i, entry] of group.slice(1).entries()) {
			const before = group[i]!;
			if (entry.startMs < before.endMs - tolerance) {
				throw fault(what, placeOf(entry), `not before ${before.endMs} ms, after ${placeOf(before)}`, `${entry.startMs} ms`);
			}
		}
	}
}

function checkWeights(problem: FillProblem, { items }: FillResult): void {
	const seen = new Set<string>();
	const left = [...(problem.freeBytes ?? [])];
	if (left.length === 0) return;
	for (const item of items) {
		const key = `${item.device} ${item.layer} ${item.component}`;
		if (seen.has(key)) continue;
		seen.add(key);
		left[item.device]! -= layerOf(problem, item, itemPlace(item)).paramBytes;
		if (left[item.device]! < 0) {
			const free = problem.freeBytes![item.device]!;
			throw fault('weights do not fit', itemPlace(item), `at most ${free} bytes of frozen weights`, `${free - left[item.device]!} bytes`);
		}
	}
}

function checkFigures({ endMs }: FillProblem, { items, iterationMs, lowerBoundMs }: FillResult, tolerance: number): void {
	const end = items.reduce((last, item) => Math.max(last, item.endMs), endMs);
	if (!(Math.abs(iterationMs - end) <= tolerance)) throw fault('wrong figure', 'iterationMs', `${end}`, `${iterationMs}`);
	const bounded = lowerBoundMs >= endMs - tolerance && lowerBoundMs <= iterationMs + tolerance;
	if (!bounded) throw fault('wrong figure', 'lowerBoundMs', `from ${endMs} to ${iterationMs}`, `${lowerBoundMs}`);
}

function itemPlace({ component, layer, samples, device }: FillItem): string {
	return `item ${component}, layer ${layer}, samples [${samples[0]}, ${samples[1]}) on device ${device}`;
}

function movePlace({ component, layer, samples, from, to }: FillMove): string {
	return `move of ${component}, layer ${layer}, samples [${samples[0]}, ${samples[1]}) from device ${from} to ${to}`;
}

function fault(what: string, place: string, expected: string, found: string): DiffusionPipeError {
	return new DiffusionPipeError('input', what, { place: `filling: ${place}`, expected, found });
}
