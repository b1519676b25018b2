/** @file A filling carried over to other idle time: the same layers on the same samples and devices in the same order, so that it needs no further weights. */
import { leastWork, lowerBound } from './bound.ts';
import { fillModel } from './model.ts';
import { placerOf } from './placer.ts';
import { fillResult } from './result.ts';
import { runsOf } from './runs.ts';
import type { Piece } from './timeline.ts';
import type { FillItem, FillProblem, FillResult } from './types.ts';

/** `items`, a filling of the components of `problem` in other idle time, as early as that of `problem` allows. Throws what `fillModel` throws. */
export function refill(problem: FillProblem, items: readonly FillItem[]): FillResult {
	const model = fillModel(problem, Number.POSITIVE_INFINITY);
	const pieces = items.map(({ device, startMs, endMs, component, layer, samples: [from, to] }): Piece => {
		const block = model.blocks.findIndex((b) => problem.components[b.component]!.name === component && b.first === layer);
		return { block, from, to, device, start: startMs, end: endMs };
	});
	const placer = placerOf(model);
	const runs = runsOf(model, pieces);
	const made = { pieces: [], transfers: [] };
	placer.begin(runs);
	for (let r = 0; r < runs.length; r++) if (placer.endOf(r) < 0) placer.place(r, made);
	return fillResult(model, { method: 'carried over', ...made }, lowerBound(model, leastWork(model)));
}

/** Bytes of the frozen weights that each device holds for all of `fillings`, which share them. */
export function frozenWeights({ components, idle }: FillProblem, fillings: readonly (readonly FillItem[])[]): number[] {
	const bytes = new Array<number>(idle.length).fill(0);
	const seen = new Set<string>();
	for (const { device, component, layer } of fillings.flat()) {
		const key = `${device} ${layer} ${component}`;
		if (seen.has(key)) continue;
		seen.add(key);
		bytes[device]! += components.find(({ name }) => name === component)!.layers[layer]!.paramBytes;
	}
	return bytes;
}
