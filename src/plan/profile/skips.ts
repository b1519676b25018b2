/** @file The skips of a chain: values that jump over layers. */
import type { ChainTrace } from '../../nn/chain.ts';

/** A live id that layers `from + 1` and `to` alone read, made by layer `from`. */
export interface ChainSkip {
	readonly from: number;
	readonly to: number;
	readonly id: string;
}

/** Values that the next layer and one far from it read; what others on the way read too has to pass them anyway. */
export function skipsOf(trace: ChainTrace): ChainSkip[] {
	const readers = new Map<string, number[]>();
	trace.layers.forEach((layer, i) => {
		for (const id of layer.reads) readers.set(id, [...(readers.get(id) ?? []), i]);
	});
	return [...readers].flatMap(([id, at]) => {
		const { layer: from } = trace.definitions.get(id)!;
		const to = at.at(-1)!;
		if (from < 0 || to <= from + 1 || at.some((i) => i !== to && i !== from + 1)) return [];
		return [{ from, to, id }];
	});
}
