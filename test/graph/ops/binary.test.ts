/** @file Arithmetic of two operands: values, broadcasting, errors. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { sizeOf, type Tensor, tensor, toNumbers } from '../../../src/core/tensor.ts';
import { expectClose } from '../../helpers/close.ts';
import { run } from '../../helpers/gradcheck.ts';
import { graphError } from '../../helpers/graph-error.ts';

const f64 = (shape: number[], values: number[]) => tensor('float64', shape, values);
const first = (outputs: Tensor[]) => outputs[0]!;

describe('arithmetic', () => {
	it('broadcasts from the last axis', () => {
		const y = first(run((g, a, b) => g.sub(a!, b!), [f64([2, 1], [10, 20]), f64([3], [1, 2, 3])]));
		expect(y.shape).toEqual([2, 3]);
		expect(toNumbers(y)).toEqual([9, 8, 7, 19, 18, 17]);
	});

	it('divides whole numbers towards zero', () => {
		const y = run((g, a, b) => g.div(a!, b!), [tensor('int64', [4], [7, -7, 7, -7]), tensor('int64', [4], [2, 2, -2, -2])]);
		expect(toNumbers(first(y))).toEqual([3, -3, -3, 3]);
	});

	it('takes remainders with the sign of the divisor, or of the dividend for fmod', () => {
		const inputs = [f64([2], [-5.5, 5.5]), f64([2], [2, -2])];
		expect(toNumbers(first(run((g, a, b) => g.emit('Mod', [a, b], { fmod: 1 }), inputs)))).toEqual([-1.5, 1.5]);
		const whole = [tensor('int32', [2], [-5, 5]), tensor('int32', [2], [3, -3])];
		expect(toNumbers(first(run((g, a, b) => g.mod(a!, b!), whole)))).toEqual([1, -1]);
	});

	it('raises to powers and picks extremes', () => {
		const a = f64([3], [-2, 3, 4]);
		const b = f64([3], [3, 2, 0.5]);
		expectClose(first(run((g, x, y) => g.pow(x!, y!), [a, b])), [-8, 9, 2], { rtol: 1e-15 });
		expect(toNumbers(first(run((g, x, y) => g.max(x!, y!), [a, b])))).toEqual([3, 3, 4]);
		expect(toNumbers(first(run((g, x, y) => g.min(x!, y!), [a, b])))).toEqual([-2, 2, 0.5]);
	});

	it('agrees with indexing by hand on any broadcast', () => {
		const axes = fc.array(fc.record({ size: fc.integer({ min: 1, max: 3 }), a: fc.boolean(), b: fc.boolean() }), { maxLength: 4 });
		fc.assert(
			fc.property(axes, fc.nat(2), (dims, cut) => {
				const whole = dims.map((d) => (d.a || d.b ? d.size : 1));
				const shapeA = dims.map((d) => (d.a ? d.size : 1));
				const shapeB = dims.map((d) => (d.b ? d.size : 1)).slice(shapeA.slice(0, cut).every((d, i) => d === whole[i]) ? cut : 0);
				const a = f64(shapeA, [...Array(sizeOf(shapeA)).keys()]);
				const b = f64(
					shapeB,
					[...Array(sizeOf(shapeB)).keys()].map((v) => 100 * v),
				);
				const y = first(run((g, p, q) => g.add(p!, q!), [a, b]));
				expect(y.shape).toEqual(whole);
				const at = (shape: readonly number[], index: readonly number[]) =>
					shape.reduce((flat, d, i) => flat * d + (d === 1 ? 0 : index[i + index.length - shape.length]!), 0);
				toNumbers(y).forEach((v, flat) => {
					let rest = flat;
					const index = whole.toReversed().map((d) => {
						const i = rest % d;
						rest = Math.floor(rest / d);
						return i;
					});
					index.reverse();
					expect(v).toBe(at(shapeA, index) + 100 * at(shapeB, index));
				});
			}),
			{ numRuns: 60 },
		);
	});

	it('says which shapes or types do not fit', () => {
		expect(graphError((g, a, b) => g.add(a!, b!), [{ shape: [2, 3] }, { shape: [2] }])).toMatch(
			/Add\(float32\[2,3\], float32\[2\]\): .*does not broadcast/,
		);
		expect(graphError((g, a, b) => g.mul(a!, b!), [{ shape: [2] }, { shape: [2], dtype: 'float64' }])).toMatch(/element types differ/);
		expect(graphError((g, a) => g.emit('Add', [a]), [{ shape: [2] }])).toMatch(/1 inputs given/);
		expect(graphError((g, a) => g.emit('Add', [a, undefined]), [{ shape: [2] }])).toMatch(/input 1 is omitted/);
		expect(graphError((g, a) => g.emit('Add', [a, a], { axis: 1 }), [{ shape: [2] }])).toMatch(/attribute axis is not known/);
	});
});
