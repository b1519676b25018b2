import { describe, expect, it } from 'vitest';
import { tensor } from '../../src/core/tensor.ts';
import { createBuilder } from '../../src/graph/builder.ts';
import { evaluateGraph } from '../../src/graph/evaluate.ts';
import type { ValueName } from '../../src/graph/types.ts';

const name = (s: string) => s as ValueName;

function sample() {
	const g = createBuilder('sample');
	const x = g.input('x', 'float32', [2]);
	const [left, right] = g.split(x, [1, 1], 0);
	return g.finish([g.add(left!, right!), x, g.scalar(7)]);
}

describe('evaluateGraph', () => {
	it('gives every output, inputs and constants among them', () => {
		const graph = sample();
		const x = tensor('float32', [2], [1, 2]);
		const results = evaluateGraph(graph, new Map([[name('x'), x]]));
		expect([...results.keys()]).toEqual(graph.outputs);
		expect([...results.values()].map((t) => Array.from(t.data as Float32Array))).toEqual([[3], [1, 2], [7]]);
	});

	it('rounds each node’s result once to its type', () => {
		const g = createBuilder('rounding');
		const x = g.input('x', 'float32', [1]);
		const graph = g.finish([g.sub(g.add(x, 1), 1)]);
		const [small] = evaluateGraph(graph, new Map([[x.name, tensor('float32', [1], [1e-9])]])).values();
		expect(small!.data[0]).toBe(0);
	});

	it.each<[string, Map<ValueName, ReturnType<typeof tensor>>, RegExp]>([
		['missing', new Map(), /^graph sample: input x does not fit\n {2}expected: float32\[2\]\n {2}found: nothing/],
		['of another shape', new Map([[name('x'), tensor('float32', [1, 2], [1, 2])]]), /found: float32\[1,2\]/],
		['of another type', new Map([[name('x'), tensor('int64', [2], [1, 2])]]), /found: int64\[2\]/],
	])('refuses a feed that is %s', (_, feeds, message) => {
		expect(() => evaluateGraph(sample(), feeds)).toThrow(message);
	});
});
