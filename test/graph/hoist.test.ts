import { describe, expect, it } from 'vitest';
import { type Tensor, tensor } from '../../src/core/tensor.ts';
import { createBuilder } from '../../src/graph/builder.ts';
import { checkGraph } from '../../src/graph/check.ts';
import { evaluateGraph } from '../../src/graph/evaluate.ts';
import { hoist } from '../../src/graph/hoist.ts';
import type { Graph, Value, ValueName } from '../../src/graph/types.ts';
import { expectClose } from '../helpers/close.ts';

const names = (...list: string[]) => list as ValueName[];

/** Runs both parts one after the other. */
function runParts({ once, each }: { once: Graph; each: Graph }, feeds: ReadonlyMap<ValueName, Tensor>): Map<ValueName, Tensor> {
	const results = evaluateGraph(checkGraph(once, 'test'), new Map(once.inputs.map((i) => [i, feeds.get(i)!])));
	const all = new Map([...feeds, ...results]);
	return evaluateGraph(checkGraph(each, 'test'), new Map(each.inputs.map((i) => [i, all.get(i)!])));
}

describe('hoisting', () => {
	const build = (outputs: (v: { x: Value; s: Value; scale: Value; product: Value }) => Value[]): Graph => {
		const g = createBuilder('parts');
		const [x, s] = [g.input('x', 'float32', [3]), g.input('s', 'float32', [1])];
		const scale = g.add(g.sqrt(s), 1);
		const product = g.mul(g.add(x, s), scale);
		return g.finish(outputs({ x, s, scale, product }));
	};
	const feeds = new Map<ValueName, Tensor>([
		['x' as ValueName, tensor('float32', [3], [1, -2, 0.5])],
		['s' as ValueName, tensor('float32', [1], [4])],
	]);

	it('computes once what depends on the invariant inputs alone, and together what the graph did', () => {
		const graph = build(({ product }) => [product]);
		const parts = hoist(graph, names('s'));
		expect(parts.once.nodes.map((n) => n.op)).toEqual(['Sqrt', 'Add']);
		expect(parts.each.nodes.map((n) => n.op)).toEqual(['Add', 'Mul']);
		expect(parts.each.inputs).toEqual(['x', 's', ...parts.once.outputs]);
		expectClose(runParts(parts, feeds).get(graph.outputs[0]!)!, [15, 6, 13.5]);
	});

	it('leaves an output of the graph to the part that runs each time', () => {
		const graph = build(({ scale, product }) => [product, scale]);
		const parts = hoist(graph, names('s'));
		expect(parts.each.outputs).toEqual(graph.outputs);
		expectClose(runParts(parts, feeds).get(graph.outputs[1]!)!, [3]);
	});

	it('gives an empty first part where nothing is invariant', () => {
		const graph = build(({ product }) => [product]);
		const { once, each } = hoist(graph, []);
		expect([once.nodes, once.outputs, once.inputs]).toEqual([[], [], []]);
		expect(each.nodes).toHaveLength(graph.nodes.length);
		expect(each.inputs).toEqual(graph.inputs);
	});
});
