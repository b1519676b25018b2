import { describe, expect, it } from 'vitest';
import { explicitTransposes } from '../../../../src/engine/local/lowering/gradient-products.ts';
import type { GraphBuilder } from '../../../../src/graph/builder.ts';
import { operators, passed } from '../../../helpers/passes.ts';

const transA = { transA: true };

describe('products of a transposed matrix', () => {
	/** The weight gradient of a projection whose output gradient comes from heads, [batch, heads, width, tokens] or [batch, heads, tokens, width]. */
	const ofHeads = (perm: readonly number[]) => (g: GraphBuilder) => {
		const [batch, heads, tokens, width] = [2, 3, 5, 4];
		const shape = perm[1] === 3 ? [batch, heads, width, tokens] : [batch, heads, tokens, width];
		const rows = g.reshape(g.transpose(g.input('dy', 'float32', shape), perm), [batch * tokens, heads * width]);
		return [g.gemm(rows, g.input('x', 'float32', [batch * tokens, 6]), undefined, transA), g.neg(rows)];
	};

	it('take the transpose from the tensor that the matrix is a transposed view of, where that moves whole runs', () => {
		const { after } = passed(explicitTransposes, ofHeads([0, 3, 1, 2]));
		expect(operators(after)).toEqual(['Transpose', 'Reshape', 'Transpose', 'Reshape', 'Gemm', 'Neg']);
		expect(after.nodes.filter((n) => n.op === 'Transpose').map((n) => n.attributes.perm)).toContainEqual([1, 2, 0, 3]);
		expect(after.nodes.find((n) => n.op === 'Gemm')!.attributes.transA).toBe(0);
	});

	it('stay where that would move single elements', () => {
		const { before, after } = passed(explicitTransposes, ofHeads([0, 2, 1, 3]));
		expect(operators(after)).toEqual(operators(before));
	});

	it('transpose once where the result has many columns, with alpha and the third operand as before', () => {
		const product = (columns: number, rows: number) => (g: GraphBuilder) => {
			const [a, b, c] = [
				g.input('a', 'float32', [rows, 3]),
				g.input('b', 'float32', [rows, columns]),
				g.input('c', 'float32', [3, columns]),
			];
			return [g.gemm(a, b, c, { transA: true, alpha: 0.5 })];
		};
		const wide = passed(explicitTransposes, product(1024, 7)).after;
		expect(operators(wide)).toEqual(['Transpose', 'Gemm']);
		expect(wide.nodes[1]!.attributes).toMatchObject({ alpha: 0.5, transA: 0 });
		expect(operators(passed(explicitTransposes, product(64, 7)).after)).toEqual(['Gemm']);
		// Rows of 4096 bytes: what the transpose saves, the cache takes.
		expect(operators(passed(explicitTransposes, product(1024, 1024)).after)).toEqual(['Gemm']);
	});
});
