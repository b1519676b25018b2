/** @file The standard clean-up: folding, common sub-expressions, dead code, each followed by the checker. */
import { checkGraph } from '../check.ts';
import { deadCode } from '../extract.ts';
import type { Graph } from '../types.ts';
import { commonSubexpressions } from './common.ts';
import { foldConstants } from './fold.ts';

/** A pass: a function from graph to graph that keeps inputs and outputs. */
export type Pass = (graph: Graph) => Graph;

/** Runs passes in order and checks the graph after each. */
export function runPasses(graph: Graph, passes: Readonly<Record<string, Pass>>): Graph {
	let g = graph;
	for (const [name, pass] of Object.entries(passes)) g = checkGraph(pass(g), name);
	return g;
}

/** Folding, common sub-expressions and dead code. */
export function simplify(graph: Graph): Graph {
	return runPasses(graph, { fold: foldConstants, 'common sub-expressions': commonSubexpressions, 'dead code': deadCode });
}
