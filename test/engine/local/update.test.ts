import { describe, expect, it } from 'vitest';
import { updateParts } from '../../../src/engine/local/update.ts';
import { createBuilder } from '../../../src/graph/builder.ts';
import { adamwGraph } from '../../../src/program/adamw.ts';

describe('parts of an optimiser', () => {
	it("AdamW's scalars are computed once, and its passes over a chunk are as few as they were", () => {
		for (const ema of [false, true]) {
			const { once, each, further } = updateParts(adamwGraph(ema));
			expect(once!.inputs).toEqual(['hyper', 'normSquared']);
			expect(each.inputs.slice(0, 4)).toEqual(['parameter', 'gradient', 'first', 'second']);
			expect(further).toEqual(once!.outputs.map((_, i) => 2 + i));
			expect(each.nodes.length).toBeLessThanOrEqual(ema ? 17 : 14);
		}
	});

	it('an optimiser without scalars to compute has one part, which reads its hyperparameters', () => {
		const g = createBuilder('descent');
		const [p, grad, hyper] = [g.input('p', 'float32', [4]), g.input('g', 'float32', [4]), g.input('hyper', 'float32', [1])];
		g.input('norm', 'float32', [1]);
		const parts = updateParts(g.finish([g.sub(p, g.mul(grad, hyper)), g.mul(grad, 0)]));
		expect(parts.once).toBeUndefined();
		expect(parts.further).toEqual([0]);
	});
});
