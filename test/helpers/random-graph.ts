/** @file Random small graphs for properties: a list of numbers is read as a list of operators on what is there already. */
import fc from 'fast-check';
import { sizeOf, type Tensor, tensor } from '../../src/core/tensor.ts';
import { createBuilder, type GraphBuilder } from '../../src/graph/builder.ts';
import { checkGraph } from '../../src/graph/check.ts';
import type { Graph, Value, ValueName } from '../../src/graph/types.ts';
import { uniformStream } from './random.ts';

const side = 3;

/** Operators on [3, 3] matrices whose results stay small; smooth, so that they can be differentiated anywhere. */
const makers: readonly ((g: GraphBuilder, a: Value, b: Value) => Value)[] = [
	(g, a, b) => g.add(a, b),
	(g, a, b) => g.sub(a, b),
	(g, a, b) => g.mul(a, b),
	(g, a, b) => g.matMul(g.tanh(a), g.tanh(b)),
	(g, a) => g.tanh(a),
	(g, a) => g.sigmoid(a),
	(g, a) => g.transpose(a, [1, 0]),
	(g, a) => g.reshape(g.reshape(a, [side * side]), [side, side]),
	(g, a) => g.softmax(a),
	(g, a) => g.mul(a, 1),
	(g, a) => g.add(a, 0),
	(g, a) => g.identity(a),
	(g, a) => g.mul(g.add(g.scalar(0.5), g.scalar(0.25)), a),
	(g, a, b) =>
		g.concat(
			[...g.split(a, [1, 2], 0)].reverse().map((part, i) => (i === 0 ? part : g.add(part, g.slice(b, [0], [1], [0])))),
			0,
		),
	(g, a) => g.expand(g.reduceMean(a, [1], true), [side, side]),
	(g, a) => g.gelu(a, 'tanh'),
];

/** A recipe: for each node the maker and which earlier values it takes; then how many inputs, and which values are outputs. */
export interface Recipe {
	readonly inputs: number;
	readonly steps: readonly (readonly [number, number, number])[];
	readonly outputs: readonly number[];
}

export const recipes: fc.Arbitrary<Recipe> = fc.record({
	inputs: fc.integer({ min: 1, max: 3 }),
	steps: fc.array(fc.tuple(fc.nat(), fc.nat(), fc.nat()), { minLength: 1, maxLength: 9 }),
	outputs: fc.array(fc.nat(), { minLength: 1, maxLength: 2 }),
});

/** The graph of a recipe. Outputs are values that nodes made, each once. */
export function graphOf({ inputs, steps, outputs }: Recipe): Graph {
	const g = createBuilder('random');
	const values = Array.from({ length: inputs }, (_, i) => g.input(`x${i}`, 'float32', [side, side]));
	for (const [maker, a, b] of steps) values.push(makers[maker % makers.length]!(g, values[a % values.length]!, values[b % values.length]!));
	const made = values.slice(inputs);
	const chosen = [...new Set(outputs.map((o) => made[o % made.length]!))];
	return checkGraph(g.finish(chosen), 'building');
}

/** Seeded tensors for the inputs of a graph. */
export function randomFeeds(graph: Graph, seed = 1): Map<ValueName, Tensor> {
	const next = uniformStream(seed);
	return new Map(
		graph.inputs.map((name) => {
			const { dtype, shape } = graph.values.get(name)!;
			return [
				name,
				tensor(
					dtype,
					shape,
					Array.from({ length: sizeOf(shape) }, () => 2 * next() - 1),
				),
			];
		}),
	);
}
