import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { byteSize } from '../../src/core/tensor.ts';
import { createBuilder } from '../../src/graph/builder.ts';
import { differentiate } from '../../src/graph/differentiate.ts';
import { ops } from '../../src/graph/ops/index.ts';
import { chooseSaved, type Recompute } from '../../src/graph/saved.ts';
import type { Graph, Value, ValueName } from '../../src/graph/types.ts';

/** A joint graph of forward nodes, and one backward node per forward value named in `reads`. */
interface Joint {
	readonly graph: Graph;
	readonly forward: ReadonlySet<ValueName>;
	readonly outputs: readonly ValueName[];
	readonly free: ReadonlySet<ValueName>;
	/** What the backward nodes read of forward values and inputs. */
	readonly reads: readonly ValueName[];
}

const recipe = fc.record({
	steps: fc.array(fc.tuple(fc.nat(), fc.nat(), fc.nat()), { minLength: 1, maxLength: 8 }),
	reads: fc.array(fc.nat(), { minLength: 1, maxLength: 4 }),
});

/** Inputs x [2, 4] and w [4, 4], w free. Forward: views, cheap and heavy operators, of several sizes. */
function jointOf({ steps, reads }: { steps: readonly (readonly [number, number, number])[]; reads: readonly number[] }): Joint {
	const g = createBuilder('joint');
	const x = g.input('x', 'float32', [2, 4]);
	const w = g.input('w', 'float32', [4, 4]);
	const values: Value[] = [x];
	for (const [kind, a, b] of steps) {
		const [left, right] = [values[a % values.length]!, values[b % values.length]!];
		const flat = g.reshape(left, [left.shape.reduce((n, d) => n * d, 1)]);
		values.push(flat);
		switch (kind % 5) {
			case 0:
				values.push(g.tanh(left));
				break;
			case 1:
				if (left.shape.join() === right.shape.join()) values.push(g.add(left, right));
				break;
			case 2:
				values.push(g.reduceSum(flat, [0], true));
				break;
			case 3:
				values.push(g.matMul(g.reshape(left, [1, flat.shape[0]!]), g.reshape(left, [flat.shape[0]!, 1])));
				break;
			default:
				if (left.shape.length === 2 && left.shape[1] === 4) values.push(g.matMul(left, w));
		}
	}
	const forward = new Set(g.nodes().flatMap((n) => n.outputs));
	const read = [...new Set(reads.map((r) => values[r % values.length]!))];
	// A backward node reads the forward value and something of its own, so that it is not a forward node.
	const outputs = read.map((v) => g.mul(v, v));
	const graph = g.finish(outputs);
	return { graph, forward, outputs: outputs.map((o) => o.name), free: new Set([w.name]), reads: read.map((v) => v.name) };
}

/** Bytes of a set as chooseSaved counts them: one more for what was computed. */
const costOf = ({ graph, forward }: Joint, names: readonly ValueName[]) =>
	names.reduce((sum, name) => sum + byteSize(graph.values.get(name)!) + (forward.has(name) ? 1 : 0), 0);

/** True when everything that backward nodes read can be had from `saved`. */
function suffices({ graph, forward, free, reads }: Joint, saved: ReadonlySet<ValueName>, recompute: Recompute): boolean {
	const have = new Set<ValueName>([...saved, ...free, ...graph.constants.keys()]);
	for (const node of graph.nodes) {
		const { cost } = ops[node.op];
		const again = recompute === 'full' || cost === 'view' || (recompute === 'cheap' && cost === 'cheap');
		if (forward.has(node.outputs[0]!) && again && node.inputs.every((i) => i === '' || have.has(i)))
			for (const o of node.outputs) have.add(o);
	}
	return reads.every((name) => have.has(name));
}

describe.each(['views', 'cheap', 'full'] as const)('chooseSaved, recomputing %s', (recompute) => {
	it('keeps enough, in as few bytes as any set that is enough', () => {
		fc.assert(
			fc.property(recipe, (r) => {
				const joint = jointOf(r);
				const { graph, forward, outputs, free } = joint;
				const saved = chooseSaved(graph, forward, outputs, free, recompute);
				expect(suffices(joint, new Set(saved), recompute)).toBe(true);
				const candidates = [...graph.inputs.filter((i) => !free.has(i)), ...forward];
				fc.pre(candidates.length <= 14);
				let best = Number.POSITIVE_INFINITY;
				for (let mask = 0; mask < 2 ** candidates.length; mask++) {
					const subset = candidates.filter((_, i) => mask & (1 << i));
					const cost = costOf(joint, subset);
					if (cost < best && suffices(joint, new Set(subset), recompute)) best = cost;
				}
				expect(costOf(joint, saved)).toBe(best);
			}),
			{ numRuns: 60 },
		);
	});
});

describe('what differentiate saves', () => {
	const of = (build: (g: ReturnType<typeof createBuilder>, x: Value, w: Value) => Value, recompute: Recompute, wantInput = true) => {
		const g = createBuilder('f');
		const x = g.input('x', 'float32', [8, 4]);
		const w = g.input('w', 'float32', [4, 4]);
		const y = build(g, x, w);
		const { saved, forward } = differentiate(g.finish([y]), {
			outputs: [y.name],
			inputs: wantInput ? [x.name] : [],
			weights: [w.name],
			recompute,
		});
		const producer = new Map(forward.nodes.flatMap((n) => n.outputs.map((o) => [o, n.op] as const)));
		return saved.map((name) => producer.get(name) ?? name);
	};

	it('is nothing but the input of a linear layer, and the weight stays where it is', () => {
		expect(of((g, x, w) => g.matMul(x, w), 'views')).toEqual(['x']);
	});

	it('is the output of tanh, or its input when that is there anyway', () => {
		expect(of((g, x, w) => g.tanh(g.matMul(x, w)), 'views').sort()).toEqual(['Tanh', 'x']);
		expect(of((g, x, w) => g.matMul(g.tanh(x), w), 'cheap')).toEqual(['x']);
	});

	it('is what lies before a view, not the view', () => {
		expect(of((g, x, w) => g.matMul(g.reshape(g.squeeze(g.reshape(x, [1, 2, 4, 4]), [0]), [8, 4]), w), 'views')).toEqual(['x']);
	});

	it('is never what a product computed, when that can be had from less', () => {
		// The mean of the product is a hundredth of it, but a product is not done again.
		const saved = of((g, x, w) => g.mul(x, g.reduceMean(g.matMul(x, w), [1], true)), 'cheap');
		expect(saved.sort()).toEqual(['ReduceMean', 'x']);
	});
});
