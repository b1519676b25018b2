import { describe, expect, it } from 'vitest';
import { createBuilder, type GraphBuilder } from '../../../src/graph/builder.ts';
import { differentiate, gradName } from '../../../src/graph/differentiate.ts';
import { extract } from '../../../src/graph/extract.ts';
import { macsOf } from '../../../src/graph/macs.ts';
import { simplify } from '../../../src/graph/passes/index.ts';
import type { Value, ValueName } from '../../../src/graph/types.ts';
import { readUNetConfig, unetChain } from '../../../src/models/unet.ts';
import { attention } from '../../../src/nn/attention.ts';
import { stageGraph, traceChain } from '../../../src/nn/chain.ts';
import { countGraph } from '../../../src/plan/analytic/count.ts';
import { noWork } from '../../../src/plan/analytic/work.ts';

/** Counts what `build` adds; parameters begin with w, and all are trained unless said. */
function count(build: (g: GraphBuilder) => Value, gradients: readonly string[], trained: 'all' | 'none' = 'all') {
	const g = createBuilder('counted');
	const graph = g.finish([build(g)]);
	const parameters = new Set<string>(graph.inputs.filter((n) => n.startsWith('w')));
	return countGraph(graph, { parameters, trained: trained === 'all' ? parameters : new Set(), gradients: new Set(gradients) });
}
const input = (g: GraphBuilder, name: string, ...shape: number[]) => g.input(name, 'float32', shape);

describe('countGraph', () => {
	it('counts a product with a bias: as much again for each operand, a sum for the bias', () => {
		const work = count((g) => g.gemm(input(g, 'x', 5, 3), input(g, 'w', 3, 4), input(g, 'wb', 4)), ['x']);
		const product = { ...noWork, matmulMacs: 60, productElements: 15 + 20, weightElements: 12, kernels: 1 };
		expect(work).toEqual({
			forward: product,
			backwardInput: product,
			backwardWeight: { ...product, passElements: 20, kernels: 2 },
		});
	});

	it('counts no gradient for data, and none for weights that are not trained', () => {
		const build = (g: GraphBuilder) => g.matMul(input(g, 'x', 1, 5, 3), input(g, 'w', 3, 4));
		expect(count(build, []).backwardInput).toEqual(noWork);
		expect(count(build, []).backwardWeight.matmulMacs).toBe(60);
		const frozen = count(build, ['x'], 'none');
		expect(frozen.backwardInput.matmulMacs).toBe(60);
		expect(frozen.backwardWeight).toEqual(noWork);
	});

	it('tells convolutions with windows from products', () => {
		const conv = (side: number) =>
			count(
				(g) => g.conv(input(g, 'x', 1, 2, 4, 4), input(g, 'w', 3, 2, side, side), undefined, { pads: Array(4).fill(side >> 1) }),
				['x'],
			);
		expect(conv(3).forward).toMatchObject({ convMacs: 3 * 16 * 18, matmulMacs: 0, productElements: 32 + 48, weightElements: 54 });
		expect(conv(1).forward).toMatchObject({ convMacs: 0, matmulMacs: 3 * 16 * 2 });
	});

	it('takes attention for one kernel whose scores stay inside', () => {
		const work = count(
			(g) => {
				const [q, k, v] = [input(g, 'q', 1, 10, 6), input(g, 'k', 1, 8, 6), input(g, 'v', 1, 8, 6)];
				return attention(g, q, k, v, 2, g.constant({ dtype: 'float32', shape: [10, 8], data: new Float32Array(80) }), 1);
			},
			['q', 'k', 'v'],
		);
		const macs = 2 * 10 * 8 * 6;
		expect(work.forward).toEqual({ ...noWork, attentionMacs: macs, productElements: 60 + 48 + 48 + 60, kernels: 1 });
		expect(work.backwardInput).toEqual({ ...noWork, attentionMacs: 2.5 * macs, productElements: 2 * 216, kernels: 1 });
		expect(work.backwardWeight).toEqual(noWork);
	});

	it('joins elementwise operators into one pass, and adds up gradients that meet', () => {
		// x * sigmoid(x) + x: one pass reads x and writes the result; backward it reads both and the gradient and writes one.
		const work = count(
			(g) => {
				const x = input(g, 'x', 1, 7);
				return g.add(g.mul(x, g.sigmoid(x)), x);
			},
			['x'],
		);
		expect(work.forward).toEqual({ ...noWork, passElements: 14, kernels: 1 });
		expect(work.backwardInput).toEqual({ ...noWork, passElements: 21, kernels: 1 });
		// The same with a norm between: gradients of x meet, so three numbers more are moved for each of x.
		const residual = count(
			(g) => {
				const x = input(g, 'x', 1, 7);
				return g.add(g.layerNorm(x, input(g, 'w', 7), undefined, 1e-5).y, x);
			},
			['x'],
		);
		expect(residual.forward).toEqual({ ...noWork, passElements: 14 + 21, kernels: 2 });
		expect(residual.backwardInput).toEqual({ ...noWork, passElements: 21 + 21, kernels: 2 });
		expect(residual.backwardWeight).toEqual({ ...noWork, passElements: 14, weightElements: 7, kernels: 1 });
	});

	it('leaves out what is done on parameters alone', () => {
		const work = count(
			(g) => {
				const w = g.mul(input(g, 'w', 3, 8), 2);
				return g.matMul(input(g, 'x', 1, 5, 3), g.slice(w, [0], [4], [1]));
			},
			['x'],
		);
		expect(work.forward).toEqual({ ...noWork, matmulMacs: 60, productElements: 35, weightElements: 12, kernels: 1 });
	});

	it('agrees with the multiply-accumulates of the graphs that differentiation makes', () => {
		const config = {
			sample_size: 8,
			block_out_channels: [32, 64],
			down_block_types: ['DownBlock2D', 'AttnDownBlock2D'],
			up_block_types: ['AttnUpBlock2D', 'UpBlock2D'],
		};
		const trace = traceChain(unetChain(readUNetConfig(config)), 1);
		trace.chain.layers.forEach(({ name }, i) => {
			const stage = stageGraph(trace, i, i + 1);
			const graph = simplify(stage.graph);
			const weights = stage.parameters.map((p) => p.name as ValueName);
			const received = stage.receives.map(([, n]) => n);
			const work = countGraph(graph, { parameters: new Set(weights), trained: new Set(weights), gradients: new Set(received) });
			const d = differentiate(graph, { outputs: stage.sends.map(([, n]) => n), inputs: received, weights });
			const inputGrads = extract(
				d.backward,
				'inputs',
				d.backward.inputs,
				d.backward.outputs.filter((o) => received.some((n) => gradName(n) === o)),
			);
			const { forward, backwardInput: b, backwardWeight: w } = work;
			expect(forward.convMacs + forward.matmulMacs + forward.attentionMacs, name).toBe(macsOf(graph));
			// Strided convolutions pad their input's gradient, which our graphs multiply out.
			if (name.includes('downsamplers')) return;
			expect(b.convMacs + b.matmulMacs + (4 / 5) * b.attentionMacs, name).toBeCloseTo(macsOf(inputGrads), 0);
			expect(w.convMacs + w.matmulMacs, name).toBeCloseTo(macsOf(d.backward) - macsOf(inputGrads), 0);
		});
	});
});
