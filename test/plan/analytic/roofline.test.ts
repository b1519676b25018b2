import { describe, expect, it } from 'vitest';
import { type Accelerator, acceleratorByName, accelerators } from '../../../src/plan/analytic/accelerators.ts';
import { fitEfficiency, type MeasuredPoint, predictMs } from '../../../src/plan/analytic/fit.ts';
import { namedJob } from '../../../src/plan/analytic/named-jobs.ts';
import { workMs } from '../../../src/plan/analytic/roofline.ts';
import { addWork, noWork } from '../../../src/plan/analytic/work.ts';

/** 1e12 FLOP/s in half precision, half of that in single, 1e9 bytes/s. */
const plain: Accelerator = {
	name: 'plain',
	flops: { half: 1e12, single: 0.5e12 },
	memoryBytes: 1e9,
	memoryBandwidth: 1e9,
	link: { latencyMs: 0, bytesPerMs: 1e6 },
	efficiency: { conv: 0.5, matmul: 1, attention: 0.25, memory: 0.5, kernelMs: 0.01 },
};

describe('workMs', () => {
	it('is the arithmetic of products where that takes longer', () => {
		const work = { ...noWork, convMacs: 1e8, matmulMacs: 2e8, attentionMacs: 1e8 };
		// 2 * (1e8 / 0.5 + 2e8 + 1e8 / 0.25) / 1e12 s.
		expect(workMs(work, 1, plain)).toBeCloseTo(1.6, 10);
		expect(workMs(work, 8, plain)).toBeCloseTo(12.8, 10);
		expect(workMs(work, 1, plain, 'float32')).toBeCloseTo(3.2, 10);
	});

	it('is their traffic where that does, with the weights once for all samples', () => {
		const work = { ...noWork, matmulMacs: 1, productElements: 1000, weightElements: 10_000 };
		expect(workMs(work, 1, plain)).toBeCloseTo((11_000 * 2) / 0.5e6, 10);
		expect(workMs(work, 10, plain)).toBeCloseTo((20_000 * 2) / 0.5e6, 10);
		expect(workMs(work, 10, plain, 'float32')).toBeCloseTo((20_000 * 4) / 0.5e6, 10);
	});

	it('adds passes and kernels to either', () => {
		const work = { ...noWork, matmulMacs: 1e9, passElements: 1e6, kernels: 7 };
		expect(workMs(work, 3, plain)).toBeCloseTo(6 + 12 + 0.07, 10);
	});
});

describe('acceleratorByName', () => {
	it('finds names as people write them', () => {
		expect(acceleratorByName('a100-80').name).toBe('A100-80');
		expect(acceleratorByName('rtx4090').name).toBe('RTX 4090');
		expect(() => acceleratorByName('H1000')).toThrow(/accelerator H1000 is not known\n.*A100-40.*\n.*did you mean H100\?/);
	});

	it('lists each once, with numbers of the right size', () => {
		expect(new Set(accelerators.map((a) => a.name)).size).toBe(accelerators.length);
		for (const { flops, memoryBandwidth, memoryBytes } of accelerators) {
			expect(flops.half).toBeGreaterThan(flops.single);
			expect(memoryBandwidth / memoryBytes).toBeGreaterThan(10);
			expect(memoryBandwidth / memoryBytes).toBeLessThan(60);
		}
	});
});

describe('fitEfficiency', () => {
	const work = namedJob('sd21').frozen.flatMap((f) => f.layers.map((l) => l.forward));
	const layers = namedJob('sd21').backbones[0]!.layers;
	const truth = { conv: 0.6, matmul: 0.8, attention: 0.3, memory: 0.9, kernelMs: 0.004 };
	const points = (efficiency: typeof truth): MeasuredPoint[] =>
		[...work, ...layers.flatMap((l) => [l.forward, l.backwardInput])].flatMap((pass) =>
			[1, 8].map((samples) => {
				const point = { passes: [{ work: pass, samples }], ms: 0 };
				return { ...point, ms: predictMs(point, { ...plain, ...acceleratorByName('H100'), efficiency }) };
			}),
		);

	it('finds the efficiencies that points were made with', () => {
		const usable = points(truth).filter((p) => p.ms > 0);
		const { efficiency, error } = fitEfficiency(usable, acceleratorByName('H100'), { prior: 1e-9 });
		expect(error).toBeLessThan(1e-4);
		for (const key of Object.keys(truth) as (keyof typeof truth)[]) expect(efficiency[key] / truth[key], key).toBeCloseTo(1, 2);
	});

	it('leaves alone what it is not asked for, and stays at 1 at most', () => {
		const usable = points({ ...truth, matmul: 3 }).filter((p) => p.ms > 0);
		const start = acceleratorByName('H100');
		const { efficiency } = fitEfficiency(usable, start, { keys: ['matmul', 'conv'] });
		expect(efficiency.matmul).toBe(1);
		expect(efficiency.attention).toBe(start.efficiency.attention);
		expect(efficiency.memory).toBe(start.efficiency.memory);
	});

	it('stays where it is when there is nothing to tell', () => {
		const point: MeasuredPoint = { passes: [{ work: addWork(...work), samples: 4 }], ms: 0 };
		const start = acceleratorByName('A100-40');
		const { efficiency } = fitEfficiency([{ ...point, ms: predictMs(point, start) }], start);
		expect(efficiency.conv).toBeCloseTo(start.efficiency.conv, 6);
	});
});
