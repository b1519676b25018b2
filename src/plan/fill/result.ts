/** @file A filling in the caller's terms: one item per layer, moves between devices, the figures. */
import { timeAt } from '../profile/times.ts';
import type { FillModel } from './model.ts';
import type { Piece, Transfer } from './timeline.ts';
import type { FillItem, FillMove, FillResult } from './types.ts';

/** What a search has found: who found it, and what runs where and moves where. */
export interface Filling {
	readonly method: string;
	readonly pieces: readonly Piece[];
	readonly transfers: readonly Transfer[];
}

/** End of the iteration with the filling in it, ms: of the pipeline, or of the last piece where that is later. */
export function iterationOf({ endMs }: FillModel, { pieces }: Filling): number {
	return pieces.reduce((end, piece) => Math.max(end, piece.end), endMs);
}

/** The filling layer by layer and move by move: blocks of merged layers are told apart again by the times of their layers. */
export function fillResult(model: FillModel, filling: Filling, lowerBoundMs: number): FillResult {
	const { components, batchSizes } = model.problem;
	const items: FillItem[] = [];
	for (const { block, from, to, device, start, end } of filling.pieces) {
		const { component, first, end: after } = model.blocks[block]!;
		const { name, layers } = components[component]!;
		let startMs = start;
		for (let layer = first; layer < after; layer++) {
			const endMs = layer + 1 === after ? end : startMs + timeAt(batchSizes, layers[layer]!.forwardMs, to - from);
			items.push({ device, startMs, endMs, component: name, layer, samples: [from, to] });
			startMs = endMs;
		}
	}
	const moves = filling.transfers.map(({ block, from, to, source, device, start, end }): FillMove => {
		const { component, end: after } = model.blocks[block]!;
		return {
			from: source,
			to: device,
			startMs: start,
			endMs: end,
			component: components[component]!.name,
			layer: after - 1,
			samples: [from, to],
		};
	});
	const iterationMs = iterationOf(model, filling);
	return {
		items: items.sort((a, b) => a.device - b.device || a.startMs - b.startMs || a.endMs - b.endMs || a.layer - b.layer),
		moves: moves.sort((a, b) => a.startMs - b.startMs || a.from - b.from || a.to - b.to),
		iterationMs,
		lowerBoundMs: Math.min(lowerBoundMs, iterationMs),
		method: filling.method,
	};
}
