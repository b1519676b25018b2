import { describe, expect, it } from 'vitest';
import { gemmSum } from '../../../../src/engine/local/lowering/gemm-sum.ts';
import { operators, passed } from '../../../helpers/passes.ts';

describe('sums of products', () => {
	it('become the third operand of the product, whichever side the product stands on', () => {
		for (const flipped of [false, true]) {
			const { after } = passed(gemmSum, (g) => {
				const [a, b, c] = [g.input('a', 'float32', [4, 3]), g.input('b', 'float32', [4, 5]), g.input('c', 'float32', [3, 5])];
				const product = g.gemm(a, b, undefined, { transA: true, alpha: 0.5 });
				return [flipped ? g.add(product, c) : g.add(c, product)];
			});
			expect(operators(after)).toEqual(['Gemm']);
			expect(after.nodes[0]!.inputs).toEqual(['a', 'b', 'c']);
			expect(after.nodes[0]!.attributes).toEqual({ transA: 1, alpha: 0.5, beta: 1 });
		}
	});

	it('chain, so that a sum of three products is three products', () => {
		const { after } = passed(gemmSum, (g) => {
			const products = [0, 1, 2].map((i) => g.gemm(g.input(`a${i}`, 'float32', [2, 3]), g.input(`b${i}`, 'float32', [3, 4])));
			return [g.add(g.add(products[0]!, products[1]!), products[2]!)];
		});
		expect(operators(after)).toEqual(['Gemm', 'Gemm', 'Gemm']);
	});

	it('are found behind a reshape of the product, and with a product of two matrices by MatMul', () => {
		const { after } = passed(gemmSum, (g) => {
			const product = g.reshape(g.matMul(g.input('a', 'float32', [6, 3]), g.input('b', 'float32', [3, 4])), [2, 3, 4]);
			return [g.add(g.input('c', 'float32', [2, 3, 4]), product)];
		});
		expect(operators(after)).toEqual(['Reshape', 'Gemm', 'Reshape']);
	});

	it('stay where the product is read elsewhere, has a third operand, is batched, or the addend is broadcast', () => {
		const a = [2, 3];
		const cases: Parameters<typeof passed>[1][] = [
			(g) => {
				const y = g.gemm(g.input('a', 'float32', a), g.input('b', 'float32', [3, 4]));
				return [g.add(y, g.input('c', 'float32', [2, 4])), y];
			},
			(g) => [
				g.add(
					g.gemm(g.input('a', 'float32', a), g.input('b', 'float32', [3, 4]), g.input('d', 'float32', [4])),
					g.input('c', 'float32', [2, 4]),
				),
			],
			(g) => [g.add(g.matMul(g.input('a', 'float32', [2, 2, 3]), g.input('b', 'float32', [2, 3, 4])), g.input('c', 'float32', [2, 2, 4]))],
			(g) => [g.add(g.gemm(g.input('a', 'float32', a), g.input('b', 'float32', [3, 4])), g.input('c', 'float32', [4]))],
		];
		for (const build of cases) {
			const { before, after } = passed(gemmSum, build);
			expect(operators(after)).toEqual(operators(before));
		}
	});
});
