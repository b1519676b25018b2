import { describe, expect, it } from 'vitest';
import { rewrite } from '../../../src/graph/passes/rewrite.ts';
import type { ValueName } from '../../../src/graph/types.ts';
import { operators, passed } from '../../helpers/passes.ts';

describe('rewriting', () => {
	it('keeps the names of outputs, in their order, also where one value is several of them', () => {
		const { after } = passed(
			(graph) => rewrite(graph, (node, { g, value }) => (node.op === 'Neg' ? [g.mul(value(node.inputs[0] as ValueName), -1)] : undefined)),
			(g) => {
				const x = g.input('x', 'float32', [3]);
				const [a, b] = [g.neg(x), g.neg(x)];
				return [b, g.exp(a), a];
			},
		);
		expect(operators(after)).toEqual(['Mul', 'Mul', 'Exp']);
	});

	it('copies where an output is replaced by an input, a constant, or another output', () => {
		const { after } = passed(
			(graph) =>
				rewrite(graph, (node, { g, value }) => {
					if (node.op === 'Identity') return [value(node.inputs[0] as ValueName)];
					return node.op === 'Exp' ? [g.scalar(1)] : undefined;
				}),
			(g) => {
				const x = g.input('x', 'float32', []);
				const y = g.abs(x);
				return [g.identity(x), y, g.identity(y), g.exp(g.scalar(0)), g.exp(g.scalar(0))];
			},
		);
		expect(operators(after)).toEqual(['Abs', 'Identity', 'Identity', 'Identity', 'Identity']);
	});

	it('shows a rule the graph as rewritten so far, and drops what nothing reads any more', () => {
		const seen: (string | undefined)[] = [];
		const { after } = passed(
			(graph) =>
				rewrite(graph, (node, { g, value, producer, uses }) => {
					const from = node.inputs[0] as ValueName;
					seen.push(`${node.op} of ${producer(from)?.op ?? 'input'}, ${uses(from)} uses`);
					return node.op === 'Sqrt' ? [g.pow(value(from), 0.5)] : undefined;
				}),
			(g) => {
				const x = g.input('x', 'float32', [3]);
				return [g.neg(g.sqrt(g.abs(x)))];
			},
		);
		expect(seen).toEqual(['Abs of input, 1 uses', 'Sqrt of Abs, 1 uses', 'Neg of Pow, 1 uses']);
		expect(operators(after)).toEqual(['Abs', 'Pow', 'Neg']);
	});
});
