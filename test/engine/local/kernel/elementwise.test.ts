import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Tensor, tensor } from '../../../../src/core/tensor.ts';
import { compileElementwise } from '../../../../src/engine/local/kernel/elementwise.ts';
import { createMemory, instantiate } from '../../../../src/engine/local/kernel/memory.ts';
import { createBuilder, type GraphBuilder } from '../../../../src/graph/builder.ts';
import { evaluateGraph } from '../../../../src/graph/evaluate.ts';
import type { Graph, Value, ValueName } from '../../../../src/graph/types.ts';
import { expectClose } from '../../../helpers/close.ts';
import { uniformStream } from '../../../helpers/random.ts';

const length = 12;

/** Runs the compiled graph on random arrays and numbers in [0.5, 1.5]; outputs go over the first inputs when `inPlace`. */
function check(graph: Graph, inPlace: boolean, seed = 1): void {
	const random = uniformStream(seed);
	const feeds = new Map<ValueName, Tensor>(
		graph.inputs.map((name) => {
			const { shape } = graph.values.get(name)!;
			const count = shape.reduce((n, d) => n * d, 1);
			return [
				name,
				tensor(
					'float32',
					shape,
					Array.from({ length: count }, () => 0.5 + random()),
				),
			];
		}),
	);
	const memory = createMemory(1);
	const arrays = graph.inputs.filter((name) => feeds.get(name)!.data.length > 1);
	const numbers = graph.inputs.filter((name) => feeds.get(name)!.data.length === 1);
	const view = (i: number) => new Float32Array(memory.buffer, 64 * i, length);
	arrays.forEach((name, i) => {
		view(i).set(feeds.get(name)!.data as Float32Array);
	});
	const outputs = graph.outputs.map((_, i) => (inPlace ? i : arrays.length + i));
	const run = instantiate(compileElementwise(graph)!, memory);
	run(4 * length, ...arrays.map((_, i) => 64 * i), ...outputs.map((i) => 64 * i), ...numbers.map((n) => Number(feeds.get(n)!.data[0])));
	const wanted = evaluateGraph(graph, feeds);
	graph.outputs.forEach((name, i) => {
		expectClose(view(outputs[i]!), wanted.get(name)!, { rtol: 1e-5, atol: 1e-6, what: name });
	});
}

const build = (body: (g: GraphBuilder, input: (name: string, shape?: number[]) => Value) => readonly Value[]): Graph => {
	const g = createBuilder('kernel');
	return g.finish(body(g, (name, shape = [length]) => g.input(name, 'float32', shape)));
};

describe('elementwise kernels', () => {
	it('compute every operator they know, on arrays, numbers and constants', () => {
		const graph = build((g, input) => {
			const [x, y] = [input('x'), input('y')];
			const [s, t] = [input('s', [1]), input('t', [])];
			const number = g.sqrt(g.add(g.mul(s, t), 0.25));
			return [
				g.add(g.mul(x, s), y),
				g.div(g.sub(x, number), g.max(y, t)),
				g.min(g.neg(g.abs(g.sub(x, y))), g.mul(number, -0.1)),
				g.sqrt(g.sub(g.mul(x, 3), -2)),
			];
		});
		check(graph, false);
	});

	it('may write their outputs over their inputs', () => {
		const graph = build((g, input) => {
			const [x, y] = [input('x'), input('y')];
			const sum = g.add(x, y);
			return [g.mul(sum, x), g.mul(sum, 0)];
		});
		check(graph, true);
	});

	it('compute what the operators compute one by one, whatever the graph', () => {
		const step = fc.record({ op: fc.constantFrom('add', 'sub', 'mul', 'div', 'min', 'max', 'neg', 'abs'), a: fc.nat(), b: fc.nat() });
		fc.assert(
			fc.property(fc.array(step, { minLength: 1, maxLength: 20 }), fc.boolean(), fc.integer(), (steps, inPlace, seed) => {
				const graph = build((g, input) => {
					const values = [input('x'), input('s', [1]), input('y')];
					for (const { op, a, b } of steps) {
						const [left, right] = [values[a % values.length]!, values[b % values.length]!];
						// Division by what may be near zero would magnify rounding.
						if (op === 'neg' || op === 'abs') values.push(g[op](left));
						else if (op === 'div') values.push(g.div(left, g.add(g.abs(right), 1)));
						else values.push(g[op](left, right));
					}
					const last = values.findLast((v) => v.shape[0] === length)!;
					return [g.mul(last, 0.5), g.add(values[0]!, values[1]!)];
				});
				const bounded = evaluateBound(graph);
				fc.pre(bounded);
				check(graph, inPlace, seed);
			}),
			{ numRuns: 200 },
		);
	});

	it('are not made of what they cannot compute', () => {
		const undefinedFor = [
			build((g, input) => [g.exp(input('x'))]),
			build((g, input) => [g.add(input('x'), input('y', [2, length]))]),
			build((g, input) => [g.mul(input('s', [1]), input('t', [1]))]),
			build((g, input) => [input('x'), g.sqrt(input('s', [1]))]),
			build((g, input) => [g.cast(g.cast(input('x'), 'float64'), 'float32')]),
			build((g, input) => [g.add(input('x'), g.constant(tensor('float32', [length], new Array<number>(length).fill(1))))]),
		];
		for (const graph of undefinedFor) expect(compileElementwise(graph)).toBeUndefined();
	});
});

/** True when the graph's values cannot pass 1e4 for inputs up to 1.5, where float32 rounding stays within the tolerance. */
function evaluateBound(graph: Graph): boolean {
	const bound = new Map<string, number>([...graph.constants].map(([name, t]) => [name, Math.abs(Number(t.data[0]))]));
	for (const name of graph.inputs) bound.set(name, 1.5);
	for (const { op, inputs, outputs } of graph.nodes) {
		const [a, b = 0] = inputs.map((i) => bound.get(i)!) as [number, number?];
		const value = op === 'Mul' ? a * b : op === 'Add' || op === 'Sub' ? a + b : op === 'Min' || op === 'Max' ? Math.max(a, b) : a;
		if (value > 1e4) return false;
		bound.set(outputs[0]!, value);
	}
	return true;
}
