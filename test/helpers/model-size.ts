/** @file Parameters and multiply-accumulates of a chain at full size, counted without weights. */
import { sizeOf } from '../../src/core/tensor.ts';
import { macsOf } from '../../src/graph/macs.ts';
import { type Chain, stageGraph, traceChain } from '../../src/nn/chain.ts';

/** What a chain costs for one sample. */
export interface ModelSize {
	/** Trained elements. */
	readonly parameters: number;
	/** Elements saved but not trained. */
	readonly buffers: number;
	/** Multiply-accumulates of one forward pass. */
	readonly macs: number;
	/** Trained elements of the parameters whose name matches. */
	matching(pattern: RegExp): number;
}

/** Counts `chain` at one sample. */
export function modelSize(chain: Chain): ModelSize {
	const trace = traceChain(chain, 1);
	const all = [...trace.parameters.values()];
	const count = (parameters: typeof all) => parameters.reduce((n, p) => n + sizeOf(p.shape), 0);
	const trained = all.filter((p) => p.trained);
	return {
		parameters: count(trained),
		buffers: count(all) - count(trained),
		macs: macsOf(stageGraph(trace, 0, chain.layers.length).graph),
		matching: (pattern) => count(trained.filter((p) => pattern.test(p.name))),
	};
}

/** In units of `unit`, to `digits` decimals, as tables print it. */
export function rounded(value: number, unit: number, digits: number): string {
	return (value / unit).toFixed(digits);
}
