import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { byteSize, type Tensor, tensor } from '../../src/core/tensor.ts';
import { createBuilder } from '../../src/graph/builder.ts';
import { type Differentiated, differentiate, gradients, gradName } from '../../src/graph/differentiate.ts';
import { evaluateGraph } from '../../src/graph/evaluate.ts';
import { simplify } from '../../src/graph/passes/index.ts';
import type { Recompute } from '../../src/graph/saved.ts';
import { type SplitBackward, splitBackward } from '../../src/graph/split-backward.ts';
import type { Graph, ValueName } from '../../src/graph/types.ts';
import { ditChain, readDiTConfig } from '../../src/models/dit.ts';
import { stageGraph, traceChain } from '../../src/nn/chain.ts';
import { expectClose } from '../helpers/close.ts';
import { graphOf, randomFeeds, recipes } from '../helpers/random-graph.ts';

type Env = Map<ValueName, Tensor>;

/** Gradients as `gradients` gives them on the whole graph: what the split graphs must agree with. */
function direct(graph: Graph, outputs: readonly ValueName[], wanted: readonly ValueName[], feeds: Env, grads: Env): Env {
	const g = createBuilder('direct', graph);
	const seeds = outputs.map((name) => {
		const value = graph.values.get(name)!;
		return { value, grad: g.input(`seed.${name}`, value.dtype, value.shape) };
	});
	const found = gradients(
		g,
		seeds,
		wanted.map((name) => graph.values.get(name)!),
	);
	const all = g.finish(found.flatMap((v) => (v ? [v] : [])));
	const inputs: Env = new Map([...feeds, ...outputs.map((name) => [`seed.${name}` as ValueName, grads.get(gradName(name))!] as const)]);
	const results = evaluateGraph(all, inputs);
	return new Map(wanted.flatMap((name, i) => (found[i] ? [[gradName(name), results.get(found[i].name)!] as const] : [])));
}

/** The backward graph in two. */
function parts({ backward }: Pick<Differentiated, 'backward'>, weights: readonly ValueName[]): SplitBackward {
	const grads = new Set(weights.map((name) => gradName(name)));
	return splitBackward(
		backward,
		backward.outputs.filter((name) => grads.has(name)),
		weights,
	);
}

/** Runs forward, then each backward graph with only what it may read: what is saved, weights, output gradients, what B hands on. */
function staged(d: Differentiated, weights: readonly ValueName[], feeds: Env, grads: Env) {
	const made = evaluateGraph(d.forward, feeds);
	const kept: Env = new Map(d.saved.map((name) => [name, feeds.get(name) ?? made.get(name)!]));
	for (const w of weights) kept.set(w, feeds.get(w)!);
	const given: Env = new Map([...kept, ...grads]);
	const backward = evaluateGraph(d.backward, given);
	const split = parts(d, weights);
	const input = evaluateGraph(split.input, given);
	const handed: Env = new Map(split.handed.map((name) => [name, input.get(name)!]));
	const weight = evaluateGraph(split.weight, new Map([...given, ...handed]));
	return { made, backward, parted: new Map([...input, ...weight]) };
}

const bytes = (graph: Graph, names: readonly ValueName[]) => names.reduce((sum, name) => sum + byteSize(graph.values.get(name)!), 0);

const rtol = 1e-5;

function checkSplit(
	graph: Graph,
	inputs: readonly ValueName[],
	weights: readonly ValueName[],
	recompute: Recompute,
	feeds: Env,
): Differentiated {
	const outputs = graph.outputs;
	const d = differentiate(graph, { outputs, inputs, weights, recompute });
	const grads: Env = new Map(outputs.map((name, i) => [gradName(name), randomFeeds({ ...graph, inputs: [name] }, 11 + i).get(name)!]));
	const wanted = direct(graph, outputs, [...inputs, ...weights], feeds, grads);
	const { made, backward, parted } = staged(d, weights, feeds, grads);
	const plain = evaluateGraph(graph, feeds);
	for (const name of outputs) expectClose(made.get(name)!, plain.get(name)!, { rtol: 0, what: name });
	expect([...backward.keys()].sort()).toEqual([...wanted.keys()].sort());
	expect([...inputs, ...weights].filter((name) => !wanted.has(gradName(name)))).toEqual(d.unreached);
	for (const [name, value] of wanted) {
		// The floor is for biases of keys: softmax does not see them, so their gradients are rounding alone.
		const scale = Math.max(0.1, ...Array.from(value.data as Float32Array, Math.abs));
		expectClose(backward.get(name)!, value, { rtol, atol: rtol * scale, what: `backward ${name}` });
		expectClose(parted.get(name)!, value, { rtol, atol: rtol * scale, what: `B and W ${name}` });
	}
	return d;
}

describe.each(['views', 'cheap', 'full'] as const)('differentiate, recomputing %s', (recompute) => {
	it('gives the gradients of the whole graph, in one graph or parted into B and W', () => {
		fc.assert(
			fc.property(recipes, fc.integer({ min: 0, max: 7 }), (recipe, mask) => {
				const graph = graphOf(recipe);
				const weights = graph.inputs.filter((_, i) => mask & (1 << i));
				checkSplit(
					graph,
					graph.inputs.filter((name) => !weights.includes(name)),
					weights,
					recompute,
					randomFeeds(graph),
				);
			}),
			{ numRuns: 150 },
		);
	});
});

describe('a DiT block', () => {
	const config = readDiTConfig(JSON.parse(readFileSync(new URL('../fixtures/dit/config.json', import.meta.url), 'utf8')));
	const trace = traceChain(ditChain(config), 2);
	// The block as a middle stage: hidden and conditioning come in and go out.
	const stage = stageGraph(trace, 2, 3);
	const graph = simplify(stage.graph);
	const weights = stage.parameters.map((p) => p.name as ValueName);
	const inputs = stage.receives.map(([, name]) => name);
	const feeds: Env = randomFeeds(graph);
	// Matrices as large as training starts them: attention that sees one key alone has gradients of nothing but rounding.
	for (const name of weights) {
		const { shape, data } = feeds.get(name)!;
		const fan = shape.length > 1 ? shape[1]! : 1;
		for (let i = 0; i < data.length; i++) (data as Float32Array)[i]! *= fan ** -0.5;
	}
	for (const [name, input] of stage.feeds)
		feeds.set(input, name === 'timestep' ? tensor('float32', [2], [3, 700]) : tensor('int64', [2], [1, 4]));
	const views = checkSplit(graph, inputs, weights, 'views', feeds);
	const cheap = checkSplit(graph, inputs, weights, 'cheap', feeds);
	const savedBytes = (d: Differentiated) => bytes(d.forward, d.saved);

	it('saves fewer bytes when cheap operators run again, with the same gradients', () => {
		expect(savedBytes(cheap)).toBeLessThan(0.8 * savedBytes(views));
	});

	it('says all that it saves', () => {
		for (const d of [views, cheap]) {
			const known = new Set<ValueName>([...d.saved, ...weights, ...graph.outputs.map(gradName)]);
			const { input, handed, weight } = parts(d, weights);
			for (const b of [d.backward, input]) expect(b.inputs.filter((name) => !known.has(name))).toEqual([]);
			expect(weight.inputs.filter((name) => !known.has(name) && !handed.includes(name))).toEqual([]);
			expect(d.saved.filter((name) => weights.includes(name))).toEqual([]);
			const outputs = new Set(d.forward.outputs);
			expect(d.saved.filter((name) => !graph.inputs.includes(name) && !outputs.has(name))).toEqual([]);
		}
	});

	it('parts the backward of a first stage, which gives no gradient back, too', () => {
		const products = (g: Graph) => g.nodes.filter((n) => n.op === 'MatMul' || n.op === 'Gemm').length;
		const first = differentiate(graph, { outputs: graph.outputs, inputs: [], weights });
		const { input, weight } = parts(first, weights);
		expect(products(input) + products(weight)).toBe(products(first.backward));
		expect(products(input)).toBeGreaterThan(products(weight) / 2);
	});

	it('does heavy work once: products of B and W together are those of the whole backward', () => {
		const products = (g: Graph) => g.nodes.filter((n) => n.op === 'MatMul' || n.op === 'Gemm').length;
		const { input, weight } = parts(views, weights);
		expect(products(input) + products(weight)).toBe(products(views.backward));
		// One for each operand of the forward's, but none for the sinusoid of the timestep, which nothing trains.
		expect(products(views.backward)).toBe(2 * products(views.forward) - 1);
	});
});

describe('losses and seeds', () => {
	it('starts a loss from 1, and adds a gradient given for the same value', () => {
		const g = createBuilder('loss');
		const x = g.input('x', 'float32', [3]);
		const y = g.reduceSum(g.mul(x, x), [0], true);
		const d = differentiate(g.finish([y]), { outputs: [y.name], losses: [y.name], inputs: [x.name], weights: [] });
		const results = evaluateGraph(
			d.backward,
			new Map([
				[x.name, tensor('float32', [3], [1, 2, 3])],
				[gradName(y.name), tensor('float32', [1], [10])],
			]),
		);
		expectClose(results.get(gradName(x.name))!, [22, 44, 66]);
	});

	it('names what no path reaches', () => {
		const g = createBuilder('unreached');
		const [x, w] = [g.input('x', 'float32', [2, 3]), g.input('w', 'float32', [3])];
		const chosen = g.gather(w, g.argMax(x, 1, false));
		const y = g.reduceSum(chosen, [0]);
		const d = differentiate(g.finish([y]), { outputs: [], losses: [y.name], inputs: [x.name], weights: [w.name] });
		expect(d.unreached).toEqual(['x']);
		expect(d.backward.outputs).toEqual(['grad.w']);
	});

	it('gives a graph input that is an output its gradient unchanged, and equal gradients a value each', () => {
		const g = createBuilder('same');
		const [a, b] = [g.input('a', 'float32', [2]), g.input('b', 'float32', [2])];
		const y = g.add(a, b);
		const d = differentiate(g.finish([y]), { outputs: [y.name], inputs: [a.name, b.name], weights: [] });
		const grad = tensor('float32', [2], [3, 4]);
		const results = evaluateGraph(d.backward, new Map([[gradName(y.name), grad]]));
		expect([...results.keys()]).toEqual(['grad.a', 'grad.b']);
		for (const value of results.values()) expectClose(value, grad);
		expect(d.saved).toEqual([]);
	});

	it('says which operator has no gradient, and where', () => {
		const g = createBuilder('lowered');
		const x = g.input('x', 'float32', [2, 4]);
		const y = g.scope('blocks.2.ff', () => g.one('FastGelu', [x]));
		expect(() => differentiate(g.finish([y]), { outputs: [y.name], inputs: [x.name], weights: [] })).toThrow(
			/^blocks\.2\.ff: operator FastGelu has no gradient \(lowered\)/,
		);
	});

	it('keeps the layer path of the forward node on its backward nodes', () => {
		const g = createBuilder('paths');
		const x = g.input('x', 'float32', [2, 2]);
		const y = g.scope('up.0', () => g.tanh(x));
		const d = differentiate(g.finish([y]), { outputs: [y.name], inputs: [x.name], weights: [] });
		expect([...new Set(d.backward.nodes.map((n) => n.scope))]).toEqual(['up.0']);
	});
});
