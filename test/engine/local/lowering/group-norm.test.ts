import { describe, expect, it } from 'vitest';
import { groupNormByInstances } from '../../../../src/engine/local/lowering/group-norm.ts';
import type { GraphBuilder } from '../../../../src/graph/builder.ts';
import { operators, passed } from '../../../helpers/passes.ts';

const norm = (g: GraphBuilder, shape: readonly number[], groups: number, dtype: 'float32' | 'float64' = 'float32') => {
	const [x, scale, bias] = [g.input('x', dtype, shape), g.input('scale', dtype, [shape[1]!]), g.input('bias', dtype, [shape[1]!])];
	return g.one('GroupNormalization', [x, scale, bias], { num_groups: groups, epsilon: 1e-3 });
};

describe('group norms', () => {
	it('become instance norms of their groups, with scale and bias per channel, and the same results', () => {
		for (const [shape, groups] of [
			[[2, 6, 4, 3], 3],
			[[1, 4, 5], 1],
			[[3, 4, 2, 2], 4],
		] as const) {
			const { after } = passed(groupNormByInstances, (g) => [norm(g, shape, groups)]);
			const kinds = operators(after);
			expect(kinds.filter((op) => op !== 'Reshape')).toEqual(['InstanceNormalization', 'Mul', 'Add']);
			expect(after.nodes.find((n) => n.op === 'InstanceNormalization')!.attributes).toEqual({ epsilon: 1e-3 });
		}
	});

	it('stay as they are in other element types', () => {
		const { after } = passed(groupNormByInstances, (g) => [norm(g, [2, 6, 4], 3, 'float64')]);
		expect(operators(after)).toEqual(['GroupNormalization']);
	});
});
