/** @file Which device holds which samples of a frozen value, and the small graphs that cut and join them. */
import type { DType, Shape } from '../../core/tensor.ts';
import { createBuilder } from '../../graph/builder.ts';
import type { Graph } from '../../graph/types.ts';
import { type GraphId, graphId, type SlotId } from '../types.ts';

/** Samples [from, to) of a value, in a slot of one device. */
export interface Piece {
	readonly from: number;
	readonly to: number;
	readonly slot: SlotId;
}

/** Rows [from, to) of an input with `rows` rows. */
export interface Cut {
	readonly rows: number;
	readonly from: number;
	readonly to: number;
}

/** The graph that takes the cuts' rows one after another, and its id: equal cuts of equal types are one graph. Row shape is without the sample axis. */
export function rowsGraph(dtype: DType, shape: Shape, cuts: readonly Cut[]): { readonly id: GraphId; readonly graph: Graph } {
	const name = `rows.${dtype}[${shape.join(',')}].${cuts.map(({ rows, from, to }) => `${rows}:${from}-${to}`).join('+')}`;
	const g = createBuilder(name);
	const parts = cuts.map(({ rows, from, to }, i) => {
		const x = g.input(`rows${i}`, dtype, [rows, ...shape]);
		return from === 0 && to === rows ? x : g.slice(x, [from], [to], [0]);
	});
	const joined = parts.length === 1 ? parts[0]! : g.concat(parts, 0);
	const whole = cuts.length === 1 && cuts[0]!.from === 0 && cuts[0]!.to === cuts[0]!.rows;
	return { id: graphId(name), graph: g.finish([whole ? g.identity(joined) : joined]) };
}

/** The pieces that together hold samples [from, to), in order, or undefined when some sample is in none. */
export function covering(pieces: readonly Piece[], from: number, to: number): readonly Piece[] | undefined {
	const chosen: Piece[] = [];
	for (let at = from; at < to; ) {
		let best: Piece | undefined;
		for (const piece of pieces) if (piece.from <= at && piece.to > at && (!best || piece.to > best.to)) best = piece;
		if (!best) return undefined;
		chosen.push(best);
		at = best.to;
	}
	return chosen;
}
