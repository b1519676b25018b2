import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { tensor } from '../../src/core/tensor.ts';
import { createBuilder } from '../../src/graph/builder.ts';
import { checkGraph } from '../../src/graph/check.ts';
import { evaluateGraph } from '../../src/graph/evaluate.ts';
import { deadCode, extract } from '../../src/graph/extract.ts';
import type { ValueName } from '../../src/graph/types.ts';
import { expectClose } from '../helpers/close.ts';
import { graphOf, randomFeeds, recipes } from '../helpers/random-graph.ts';

/** a = exp(x), b = a + k, c = neg(y), d = b * c. */
function sample() {
	const g = createBuilder('sample');
	const [x, y] = [g.input('x', 'float32', [2]), g.input('y', 'float32', [2])];
	const k = g.constant(tensor('float32', [2], [1, 2]), 'k');
	const a = g.exp(x);
	const b = g.add(a, k);
	const c = g.neg(y);
	const d = g.mul(b, c);
	return { graph: g.finish([d, b]), x: x.name, y: y.name, k: k.name, a: a.name, b: b.name, c: c.name, d: d.name };
}

describe('extract', () => {
	it('takes the nodes, inputs and constants that the outputs need, and no others', () => {
		const { graph, x, y, k, b, c } = sample();
		const upper = checkGraph(extract(graph, 'upper', [x, y], [b]), 'extract');
		expect(upper.nodes.map((n) => n.op)).toEqual(['Exp', 'Add']);
		expect(upper.inputs).toEqual([x]);
		expect([...upper.constants.keys()]).toEqual([k]);
		const lower = checkGraph(extract(graph, 'lower', [x, y], [c]), 'extract');
		expect(lower.inputs).toEqual([y]);
		expect(lower.constants.size).toBe(0);
		expect([...lower.values.keys()].sort()).toEqual([c, y].sort());
	});

	it('stops at values that are given, in the order they are given in', () => {
		const { graph, b, c, d } = sample();
		const last = checkGraph(extract(graph, 'last', [c, b], [d]), 'extract');
		expect(last.inputs).toEqual([c, b]);
		expect(last.nodes.map((n) => n.op)).toEqual(['Mul']);
	});

	it('keeps unused inputs when asked', () => {
		const { graph, x, y, c } = sample();
		expect(extract(graph, 'lower', [x, y], [c], { keepInputs: true }).inputs).toEqual([x, y]);
	});

	it('passes a given value through as an output', () => {
		const { graph, b } = sample();
		const through = checkGraph(extract(graph, 'through', [b], [b]), 'extract');
		expect(through).toMatchObject({ inputs: [b], outputs: [b], nodes: [] });
	});

	it('takes a constant that is given as an input, and one that is an output', () => {
		const { graph, x, k, b } = sample();
		const given = checkGraph(extract(graph, 'given', [x, k], [b]), 'extract');
		expect(given.inputs).toEqual([x, k]);
		expect(given.constants.size).toBe(0);
		expect(checkGraph(extract(graph, 'constant', [], [k]), 'extract').constants.has(k)).toBe(true);
	});

	it('refuses outputs that need an input which is not given', () => {
		const { graph, x, d } = sample();
		expect(() => extract(graph, 'half', [x], [d])).toThrow(/^graph half: needs input y, which is not given/);
	});

	it('keeps a node for one of its outputs when another is given', () => {
		const g = createBuilder('parts');
		const x = g.input('x', 'float32', [4]);
		const [left, right] = g.split(x, [2, 2], 0);
		const both = g.add(left!, right!);
		const graph = g.finish([both]);
		const half = checkGraph(extract(graph, 'half', [x.name, left!.name], [both.name]), 'extract');
		const feeds = new Map([
			[x.name, tensor('float32', [4], [1, 2, 3, 4])],
			[left!.name, tensor('float32', [2], [10, 20])],
		]);
		// The given left half wins over the one the split makes again.
		expectClose(evaluateGraph(half, feeds).get(both.name)!, [13, 24]);
		const again = checkGraph(extract(half, 'again', [x.name, left!.name, `${left!.name}/again` as ValueName], [both.name]), 'extract');
		expect(again.nodes.map((n) => n.op)).toEqual(['Split', 'Add']);
	});

	it('cuts any graph in two that together compute what it does', () => {
		fc.assert(
			fc.property(recipes, fc.nat(), (recipe, cut) => {
				const graph = graphOf(recipe);
				const at = cut % (graph.nodes.length + 1);
				const early = graph.nodes.slice(0, at).flatMap((n) => n.outputs);
				const late = graph.nodes.slice(at);
				const needed = new Set([...graph.outputs, ...late.flatMap((n) => n.inputs)]);
				const crossing = early.filter((name) => needed.has(name));
				const feeds = randomFeeds(graph);
				const first = checkGraph(extract(graph, 'first', graph.inputs, crossing, { keepInputs: true }), 'extract');
				const second = checkGraph(extract(graph, 'second', [...graph.inputs, ...crossing], graph.outputs, { keepInputs: true }), 'extract');
				const middle = evaluateGraph(first, feeds);
				const results = evaluateGraph(second, new Map([...feeds, ...middle]));
				for (const [name, value] of evaluateGraph(graph, feeds)) expect(results.get(name)).toEqual(value);
			}),
			{ numRuns: 200 },
		);
	});
});

describe('deadCode', () => {
	it('drops what no output needs and keeps the inputs', () => {
		const { graph, b } = sample();
		const lean = deadCode({ ...graph, outputs: [b] });
		expect(lean.nodes.map((n) => n.op)).toEqual(['Exp', 'Add']);
		expect(lean.inputs).toEqual(graph.inputs);
	});
});
