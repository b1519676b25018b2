import { expect, test } from 'vitest';
import { meanPsnr, retrievalRate } from '../../src/train/quality.ts';

test('PSNR is of values in [-1, 1], each picture by itself', () => {
	const wanted = new Float32Array(8);
	// An error of 0.2 of a range of 2 is 20 dB, one of 0.02 is 40 dB: the mean is of decibels, not of errors.
	expect(meanPsnr(new Float32Array(8).fill(0.2), wanted, 2)).toBeCloseTo(20, 4);
	expect(meanPsnr(Float32Array.from([0.2, 0.2, 0.2, 0.2, 0.02, -0.02, 0.02, -0.02]), wanted, 2)).toBeCloseTo(30, 4);
});

test('retrieval counts queries whose own candidate is among the nearest by angle; ties count against it', () => {
	const queries = Float32Array.from([1, 0, 0, 1, 1, 1]);
	// The second candidate is long but points as its query; the third points at the first query.
	const candidates = Float32Array.from([2, 0.5, 0, 9, 1, -0.1]);
	expect(retrievalRate(queries, candidates, 2, 1)).toBeCloseTo(1 / 3);
	expect(retrievalRate(queries, candidates, 2, 2)).toBeCloseTo(2 / 3);
	expect(retrievalRate(queries, candidates, 2, 3)).toBe(1);
	const same = new Float32Array(20).fill(1);
	expect(retrievalRate(same, same, 2, 9)).toBe(0);
	expect(retrievalRate(same, same, 2, 10)).toBe(1);
});
