/** @file Softmax and its logarithm: values and errors. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { tensor, toNumbers } from '../../../src/core/tensor.ts';
import { expectClose } from '../../helpers/close.ts';
import { run } from '../../helpers/gradcheck.ts';
import { graphError } from '../../helpers/graph-error.ts';

const f64 = (shape: number[], values: number[]) => tensor('float64', shape, values);

describe('Softmax', () => {
	it('normalises along its axis', () => {
		const x = f64([2, 2], [0, Math.log(3), Math.log(4), 0]);
		const [rows, columns] = run((g, v) => [g.softmax(v!), g.softmax(v!, 0)], [x]);
		expectClose(rows!, [0.25, 0.75, 0.8, 0.2], { rtol: 1e-14 });
		expectClose(columns!, [0.2, 0.75, 0.8, 0.25], { rtol: 1e-14 });
	});

	it('has rows that sum to one whatever the shift, and a logarithm that is LogSoftmax', () => {
		const row = fc.array(fc.double({ min: -20, max: 20, noNaN: true }), { minLength: 1, maxLength: 8 });
		fc.assert(
			fc.property(row, fc.double({ min: -1000, max: 1000, noNaN: true }), (values, shift) => {
				const [y, log, shifted] = run(
					(g, x) => [g.softmax(x!), g.exp(g.logSoftmax(x!)), g.softmax(g.add(x!, shift))],
					[f64([1, values.length], values)],
				);
				expectClose([toNumbers(y!).reduce((a, b) => a + b, 0)], [1], { rtol: 1e-12 });
				expectClose(log!, y!, { rtol: 1e-9, atol: 1e-15 });
				expectClose(shifted!, y!, { rtol: 1e-9, atol: 1e-12 });
			}),
			{ numRuns: 50 },
		);
	});

	it('gives masked elements nothing', () => {
		const [y] = run((g, x) => g.softmax(x!), [f64([3], [1, Number.NEGATIVE_INFINITY, 1])]);
		expect(toNumbers(y!)).toEqual([0.5, 0, 0.5]);
	});

	it('says what does not fit', () => {
		expect(graphError((g, x) => g.softmax(x!, 2), [{ shape: [2, 3] }])).toMatch(/Softmax.*axis 2 is out of range/);
		expect(graphError((g, x) => g.logSoftmax(x!), [{ shape: [2], dtype: 'int64' }])).toMatch(/a float type/);
	});
});
