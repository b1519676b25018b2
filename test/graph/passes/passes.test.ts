import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { tensor } from '../../../src/core/tensor.ts';
import { createBuilder, type GraphBuilder } from '../../../src/graph/builder.ts';
import { evaluateGraph } from '../../../src/graph/evaluate.ts';
import { deadCode } from '../../../src/graph/extract.ts';
import { commonSubexpressions } from '../../../src/graph/passes/common.ts';
import { foldConstants } from '../../../src/graph/passes/fold.ts';
import { type Pass, runPasses, simplify } from '../../../src/graph/passes/index.ts';
import type { Graph, Value } from '../../../src/graph/types.ts';
import { expectClose } from '../../helpers/close.ts';
import { graphOf, randomFeeds, recipes } from '../../helpers/random-graph.ts';

const passes: Record<string, Pass> = {
	fold: foldConstants,
	'common sub-expressions': commonSubexpressions,
	'dead code': deadCode,
	simplify,
};

describe.each(Object.entries(passes))('%s', (name, pass) => {
	it('keeps inputs, outputs and what they are', () => {
		fc.assert(
			fc.property(recipes, (recipe) => {
				const graph = graphOf(recipe);
				const after = runPasses(graph, { [name]: pass });
				expect(after.inputs).toEqual(graph.inputs);
				expect(after.outputs).toEqual(graph.outputs);
				const feeds = randomFeeds(graph);
				const [before, now] = [evaluateGraph(graph, feeds), evaluateGraph(after, feeds)];
				for (const output of graph.outputs) expectClose(now.get(output)!, before.get(output)!, { rtol: 0, atol: 0, what: output });
			}),
			{ numRuns: 300 },
		);
	});

	it('finds nothing more to do the second time', () => {
		fc.assert(
			fc.property(recipes, (recipe) => {
				const once = simplify(graphOf(recipe));
				expect(pass(once).nodes).toEqual(once.nodes);
			}),
			{ numRuns: 100 },
		);
	});
});

const x34 = (g: GraphBuilder) => g.input('x', 'float32', [3, 4]);
const built = (build: (g: GraphBuilder, x: Value) => Value | readonly Value[]): Graph => {
	const g = createBuilder('built');
	return g.finish([build(g, x34(g))].flat());
};
const opsOf = (graph: Graph) => graph.nodes.map((n) => n.op);

describe('foldConstants', () => {
	it('computes what depends on constants alone', () => {
		const graph = foldConstants(built((g, x) => g.mul(x, g.exp(g.add(g.scalar(1), g.scalar(2))))));
		expect(opsOf(graph)).toEqual(['Mul']);
		const [, factor] = graph.nodes[0]!.inputs;
		expectClose(graph.constants.get(factor as never)!, [Math.exp(3)], { rtol: 1e-7 });
	});

	it('leaves results alone that would be large', () => {
		const graph = built((g, x) => g.add(g.reduceSum(g.expand(g.scalar(2), [100, 100]), [0, 1], false), x));
		expect(opsOf(foldConstants(graph, 9999))).toEqual(['Expand', 'ReduceSum', 'Add']);
		expect(opsOf(foldConstants(graph, 10000))).toEqual(['Add']);
	});

	it.each<[string, (g: GraphBuilder, x: Value) => Value]>([
		['x * 1', (g, x) => g.mul(x, 1)],
		['1 * x', (g, x) => g.mul(1, x)],
		['x + 0', (g, x) => g.add(0, x)],
		['x - 0', (g, x) => g.sub(x, 0)],
		['x / 1', (g, x) => g.div(x, 1)],
		['x * ones', (g, x) => g.mul(x, g.constant(tensor('float32', [4], [1, 1, 1, 1])))],
		['a transposition that moves nothing', (g, x) => g.transpose(x, [0, 1])],
		['a reshape to its own shape', (g, x) => g.reshape(x, [3, 4])],
		['an expansion to its own shape', (g, x) => g.expand(x, [3, 4])],
		['a cast to its own type', (g, x) => g.one('Cast', [x], { to: 1 })],
	])('drops %s', (_, build) => {
		expect(opsOf(foldConstants(built((g, x) => g.neg(build(g, x)))))).toEqual(['Neg']);
	});

	it.each<[string, (g: GraphBuilder, x: Value) => Value]>([
		['a product with ones that broadcasts', (g, x) => g.mul(g.reduceSum(x, [0]), g.constant(tensor('float32', [3, 1], [1, 1, 1])))],
		['0 - x', (g, x) => g.sub(0, x)],
		['1 / x', (g, x) => g.div(1, x)],
		['a product with ones and another number', (g, x) => g.mul(x, g.constant(tensor('float32', [4], [1, 1, 1, 2])))],
		['a transposition of equal axes', (g, x) => g.transpose(g.slice(x, [0], [3], [1]), [1, 0])],
		['a split into one', (g, x) => g.split(x, [4], 1)[0]!],
	])('keeps %s', (_, build) => {
		const graph = built((g, x) => g.neg(build(g, x)));
		expect(opsOf(foldConstants(graph))).toEqual(opsOf(graph));
	});

	it('keeps the node of an output', () => {
		const graph = foldConstants(built((g, x) => [g.mul(x, 1), g.add(g.scalar(1), g.scalar(2))]));
		expect(opsOf(graph)).toEqual(['Mul', 'Add']);
	});
});

describe('commonSubexpressions', () => {
	it('computes equal things once', () => {
		const graph = commonSubexpressions(built((g, x) => g.mul(g.exp(g.neg(x)), g.exp(g.neg(x)))));
		expect(opsOf(graph)).toEqual(['Neg', 'Exp', 'Mul']);
	});

	it('tells attributes and numbers of outputs apart', () => {
		const graph = built((g, x) => [g.softmax(x, 0), g.softmax(x, 1), ...g.split(x, [2, 2], 1), ...g.split(x, [1, 3], 1)]);
		expect(opsOf(commonSubexpressions(graph))).toEqual(opsOf(graph));
	});

	it('merges small constants of one type, and tells 0 from -0', () => {
		const constants = (values: readonly (readonly number[])[]) => {
			const graph = built((g, x) => values.map((v, i) => g.add(x, g.constant(tensor('float32', [v.length], v), `c${i}`))));
			return commonSubexpressions(graph).nodes.map((n) => n.inputs[1]);
		};
		expect(constants([[1], [1], [2]])).toEqual(['c0', 'c0', 'c2']);
		expect(constants([[0], [-0]])).toEqual(['c0', 'c1']);
		expect(constants([[1], [1, 1, 1, 1]])).toEqual(['c0', 'c1']);
	});

	it('keeps both of two equal outputs', () => {
		const graph = commonSubexpressions(built((g, x) => [g.neg(x), g.neg(x), g.abs(g.neg(x))]));
		expect(opsOf(graph)).toEqual(['Neg', 'Neg', 'Abs']);
		expect(graph.outputs).toHaveLength(3);
	});
});

describe('runPasses', () => {
	it('names the pass that breaks a graph', () => {
		const graph = built((g, x) => g.neg(x));
		expect(() => runPasses(graph, { fold: foldConstants, broken: (g) => ({ ...g, nodes: [] }) })).toThrow(
			/^graph built after broken: outputs: output Neg_\d+ is not defined/,
		);
	});
});
