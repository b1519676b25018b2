/** @file Activations: values, slopes at kinks and far out, errors. */
import { describe, expect, it } from 'vitest';
import { tensor, toNumbers } from '../../../src/core/tensor.ts';
import { createBuilder, type GraphBuilder } from '../../../src/graph/builder.ts';
import { gradients } from '../../../src/graph/differentiate.ts';
import { evaluateGraph } from '../../../src/graph/evaluate.ts';
import type { Value } from '../../../src/graph/types.ts';
import { expectClose } from '../../helpers/close.ts';
import { run } from '../../helpers/gradcheck.ts';
import { graphError } from '../../helpers/graph-error.ts';

const f64 = (values: number[]) => tensor('float64', [values.length], values);

describe('activations', () => {
	it.each<[string, (g: GraphBuilder, x: Value) => Value, number[], number[]]>([
		['Tanh', (g, x) => g.tanh(x), [0, 1, -1], [0, 0.7615941559557649, -0.7615941559557649]],
		['Sigmoid', (g, x) => g.sigmoid(x), [0, 1, -1, -800, 800], [0.5, 0.7310585786300049, 0.2689414213699951, 0, 1]],
		['Softplus', (g, x) => g.softplus(x), [0, 1, 1000, -1000], [Math.LN2, 1.3132616875182228, 1000, 0]],
		['Relu', (g, x) => g.relu(x), [-1, 0, 2], [0, 0, 2]],
		['LeakyRelu', (g, x) => g.leakyRelu(x, 0.1), [-2, 0, 2], [-0.2, 0, 2]],
		['Elu', (g, x) => g.elu(x, 2), [-1, 0, 2], [2 * (1 / Math.E - 1), 0, 2]],
		['Gelu', (g, x) => g.gelu(x), [0, 1, -1, 3], [0, 0.8413447460685429, -0.15865525393145707, 2.99595030590511]],
		['Gelu tanh', (g, x) => g.gelu(x, 'tanh'), [0, 1, -1, 3], [0, 0.8411919906082768, -0.15880800939172324, 2.996362607918227]],
		['Mish', (g, x) => g.mish(x), [0, 1, -1], [0, 0.8650983882673103, -0.30340146137410895]],
		['HardSwish', (g, x) => g.hardSwish(x), [-4, -3, 0, 1, 3, 4], [0, 0, 0, 2 / 3, 3, 4]],
		['HardSigmoid', (g, x) => g.hardSigmoid(x), [-3, 0, 1, 3], [0, 0.5, 0.7, 1]],
	])('%s', (_, build, x, expected) => {
		const [y] = run((g, v) => build(g, v!), [f64(x)]);
		expectClose(y!, expected, { rtol: 1e-14, atol: 1e-15 });
	});

	it('have the usual slope at a kink', () => {
		const slope = (build: (g: GraphBuilder, x: Value) => Value, at: number) => {
			const [dx] = run(
				(g, x) => gradients(g, [{ value: build(g, x!), grad: g.constant(f64([1])) }], [x!]).flatMap((v) => v ?? []),
				[f64([at])],
			);
			return toNumbers(dx!)[0];
		};
		expect(slope((g, x) => g.relu(x), 0)).toBe(0);
		expect(slope((g, x) => g.leakyRelu(x, 0.25), 0)).toBe(0.25);
		expect(slope((g, x) => g.elu(x, 1), 0)).toBe(1);
		expect(slope((g, x) => g.elu(x, 0.5), 0)).toBe(0.5);
		expect(slope((g, x) => g.hardSigmoid(x, 0.5, 0.5), 1)).toBe(0);
		expect(slope((g, x) => g.hardSwish(x), 3)).toBe(1);
	});

	it('have finite gradients far out', () => {
		const far = [-1e4, -100, -30, 30, 100, 1e4];
		const builders: ((g: GraphBuilder, x: Value) => Value)[] = [
			(g, x) => g.gelu(x),
			(g, x) => g.gelu(x, 'tanh'),
			(g, x) => g.mish(x),
			(g, x) => g.softplus(x),
			(g, x) => g.elu(x, 1),
		];
		for (const build of builders) {
			const g = createBuilder('far');
			const x = g.input('x', 'float32', [far.length]);
			const seed = g.constant(
				tensor(
					'float32',
					[far.length],
					far.map(() => 1),
				),
			);
			const [dx] = gradients(g, [{ value: build(g, x), grad: seed }], [x]);
			const result = evaluateGraph(g.finish([dx!]), new Map([[x.name, tensor('float32', [far.length], far)]])).get(dx!.name)!;
			expectClose(result, [0, 0, 0, 1, 1, 1], { atol: 1e-6 });
		}
	});

	it('keep the gradients of Gelu to as few nodes as they are', () => {
		const count = (approximate: 'none' | 'tanh') => {
			const g = createBuilder('gelu');
			const x = g.input('x', 'float32', [4]);
			const y = g.gelu(x, approximate);
			gradients(g, [{ value: y, grad: g.input('dy', 'float32', [4]) }], [x]);
			return g.nodes().length - 1;
		};
		expect(count('none')).toBe(9);
		expect(count('tanh')).toBe(12);
	});

	it('say what does not fit', () => {
		expect(graphError((g, x) => g.relu(x!), [{ shape: [2], dtype: 'int32' }])).toMatch(/Relu\(int32\[2\]\).*\n.*expected: a float type/);
		expect(graphError((g, x) => g.emit('Gelu', [x], { approximate: 'fast' }), [{ shape: [2] }])).toMatch(
			/approximate is fast\n.*expected: none or tanh/,
		);
		expect(graphError((g, x) => g.emit('Elu', [x], { beta: 1 }), [{ shape: [2] }])).toMatch(
			/attribute beta is not known\n.*expected: alpha/,
		);
	});
});
