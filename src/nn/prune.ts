/** @file A chain without the layers that nothing needs, such as a projection of an output that is not asked for. */
import { type Chain, traceChain } from './chain.ts';

/** `chain` with only the layers that its outputs depend on. */
export function withoutIdleLayers(chain: Chain): Chain {
	const trace = traceChain(chain, 1);
	const needed = new Set(trace.outputs);
	const kept = new Set<number>();
	for (let i = chain.layers.length - 1; i >= 0; i--) {
		const { reads, writes } = trace.layers[i]!;
		if (!writes.some((id) => needed.has(id))) continue;
		kept.add(i);
		for (const id of reads) needed.add(id);
	}
	return kept.size === chain.layers.length ? chain : { ...chain, layers: chain.layers.filter((_, i) => kept.has(i)) };
}
