/** @file What is done to a graph before ONNX Runtime gets it: forms of the same arithmetic that its CPU kernels run faster. */
import { type Pass, runPasses } from '../../graph/passes/index.ts';
import type { Graph } from '../../graph/types.ts';
import { blockedConvolutions } from './lowering/blocked-conv.ts';
import { gemmSum } from './lowering/gemm-sum.ts';
import { explicitTransposes } from './lowering/gradient-products.ts';
import { groupNormByInstances } from './lowering/group-norm.ts';
import { mergeReshapes } from './lowering/reshapes.ts';
import { mergeTransposes, transposeSmallOperand } from './lowering/transposes.ts';

/** The passes in their order. Each keeps inputs, outputs and, but for rounding, results. */
const loweringPasses: Readonly<Record<string, Pass>> = {
	'group norms': groupNormByInstances,
	'merged reshapes': mergeReshapes,
	'small transposes': transposeSmallOperand,
	'merged transposes': mergeTransposes,
	'explicit transposes': explicitTransposes,
	'sums of products': gemmSum,
};

/** `graph` as it is handed to ONNX Runtime, with convolutions over blocks of `channelBlock` channels where it has kernels for them. */
export function lowerForOrt(graph: Graph, channelBlock?: number): Graph {
	const lowered = runPasses(graph, loweringPasses);
	return channelBlock === undefined ? lowered : runPasses(lowered, { 'blocked convolutions': blockedConvolutions(channelBlock) });
}
