import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { randomStream } from '../../src/core/random.ts';
import { drawSigmas, type SigmaDensity, shiftSigma, uniformTimesteps } from '../../src/diffusion/timesteps.ts';

const stream = randomStream(7, 'timesteps');

describe('uniformTimesteps', () => {
	it('visits every timestep of the range equally', () => {
		const drawn = uniformTimesteps(stream, 3, 60_000, { low: 20, high: 30 });
		const counts = new Map<number, number>();
		for (const t of drawn) counts.set(t, (counts.get(t) ?? 0) + 1);
		expect([...counts.keys()].sort()).toEqual([20, 21, 22, 23, 24, 25, 26, 27, 28, 29]);
		for (const count of counts.values()) expect(Math.abs(count - 6000)).toBeLessThan(5 * Math.sqrt(5400));
	});

	it('gives each sample its own, however the batch is cut', () => {
		fc.assert(
			fc.property(fc.nat(1000), fc.nat(63), (step, cut) => {
				const whole = uniformTimesteps(stream, step, 64, { high: 1000 });
				const parts = [...uniformTimesteps(stream, step, cut, { high: 1000 })];
				parts.push(...uniformTimesteps(stream, step, 64 - cut, { high: 1000, offset: cut }));
				expect(parts).toEqual([...whole]);
			}),
		);
	});
});

describe('drawSigmas', () => {
	const draw = (density: SigmaDensity, shift = 1) => drawSigmas(stream, 0, 20_000, { density, shift });
	/** The share of values below x. */
	const below = (values: Float64Array, x: number) => values.filter((v) => v < x).length / values.length;

	it('uniform has a straight distribution', () => {
		const values = draw({ kind: 'uniform' });
		for (const x of [0.1, 0.5, 0.8]) expect(below(values, x)).toBeCloseTo(x, 1.5);
		expect(values.every((v) => v > 0 && v <= 1)).toBe(true);
	});

	it('logit_normal is the sigmoid of a normal: positive means are noisier', () => {
		const values = draw({ kind: 'logit_normal', logitMean: 1, logitStd: 2 });
		const logits = values.map((v) => Math.log(v / (1 - v)));
		const mean = logits.reduce((a, b) => a + b) / logits.length;
		const deviation = Math.sqrt(logits.reduce((a, b) => a + (b - mean) ** 2, 0) / logits.length);
		expect(Math.abs(mean - 1)).toBeLessThan((5 * 2) / Math.sqrt(logits.length));
		expect(Math.abs(deviation - 2)).toBeLessThan((5 * 2) / Math.sqrt(2 * logits.length));
		expect(below(values, 0.5)).toBeLessThan(0.4);
	});

	it('mode favours the middle for positive scales and the ends for negative ones', () => {
		const middle = (values: Float64Array) => below(values, 0.6) - below(values, 0.4);
		expect(middle(draw({ kind: 'mode', modeScale: 1.29 }))).toBeGreaterThan(0.25);
		expect(middle(draw({ kind: 'mode', modeScale: -0.8 }))).toBeLessThan(0.17);
		expect(below(draw({ kind: 'mode', modeScale: 0 }), 0.3)).toBeCloseTo(0.3, 1.5);
		expect(draw({ kind: 'mode', modeScale: 1.29 }).every((v) => v > 0 && v <= 1)).toBe(true);
	});

	it('shift moves quantiles by its formula, keeping 0 and 1', () => {
		expect(below(draw({ kind: 'uniform' }, 3), shiftSigma(0.5, 3))).toBeCloseTo(0.5, 1.5);
		expect(shiftSigma(0.5, 3)).toBe(0.75);
		expect([shiftSigma(0, 3), shiftSigma(1, 3)]).toEqual([0, 1]);
	});

	it('gives each sample its own, however the batch is cut', () => {
		const density = { kind: 'logit_normal', logitMean: 0, logitStd: 1 } as const;
		const whole = drawSigmas(stream, 9, 10, { density });
		expect([...drawSigmas(stream, 9, 3, { density }), ...drawSigmas(stream, 9, 7, { density, offset: 3 })]).toEqual([...whole]);
	});
});
