/** @file Arithmetic of two operands: values, broadcasting, errors. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { sizeOf, type Tensor, tensor, toNumbers } from '../../../src/core/tensor.ts';
import { createBuilder } from '../../../src/graph/builder.ts';
import { gradients } from '../../../src/graph/differentiate.ts';
import { evaluateGraph } from '../../../src/graph/evaluate.ts';
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
		expect(toNumbers(first(run((g, a, b) => g.mod(a!, b!), inputs)))).toEqual([-1.5, 1.5]);
		const whole = [tensor('int32', [2], [-5, 5]), tensor('int32', [2], [3, -3])];
		expect(toNumbers(first(run((g, a, b) => g.mod(a!, b!), whole)))).toEqual([1, -1]);
		expect(toNumbers(first(run((g, a, b) => g.emit('Mod', [a, b], { fmod: 1 }), whole)))).toEqual([-2, 2]);
		expect(graphError((g, a) => g.emit('Mod', [a, a]), [{ shape: [2] }])).toMatch(/follows the dividend\n {2}expected: fmod = 1/);
	});

	it('has a result for floats divided by zero, and none for whole numbers', () => {
		expect(toNumbers(first(run((g, a, b) => g.div(a!, b!), [f64([3], [1, -1, 0]), f64([], [0])])))).toEqual([
			Number.POSITIVE_INFINITY,
			Number.NEGATIVE_INFINITY,
			Number.NaN,
		]);
		const whole = [tensor('int64', [2], [7, 7]), tensor('int64', [2], [1, 0])];
		expect(() => run((g, a, b) => g.scope('block', () => g.div(a!, b!)), whole)).toThrow('block: Div: a whole number is divided by 0');
		expect(() => run((g, a, b) => g.mod(a!, b!), whole)).toThrow('run: Mod: a whole number is divided by 0');
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

	it('refuses bool', () => {
		for (const op of ['Add', 'Sub', 'Mul', 'Div', 'Pow', 'Max', 'Min', 'Mod'] as const) {
			expect(graphError((g, a) => g.emit(op, [a, a]), [{ shape: [2], dtype: 'bool' }])).toMatch(
				/element type bool of input 0 is not supported\n {2}expected: a numeric type/,
			);
		}
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

describe('the gradient of Pow with a constant exponent', () => {
	/** Operators of the gradient of x to the power `p`, and the gradient at `x` for dy = 1. */
	const gradientOf = (p: number, x: number[]) => {
		const g = createBuilder('pow');
		const v = g.input('x', 'float64', [x.length]);
		const y = g.pow(v, p);
		const before = g.nodes().length;
		const [dx] = gradients(g, [{ value: y, grad: g.constant(f64([x.length], Array(x.length).fill(1)), 'dy') }], [v]);
		const made = g.nodes().slice(before);
		return {
			operators: made.map((n) => n.op),
			values: dx && toNumbers(evaluateGraph(g.finish([dx]), new Map([[v.name, f64([x.length], x)]])).get(dx.name)!),
		};
	};

	it('takes no power where the exponent is 0.5, 1 or 2', () => {
		expect(gradientOf(2, [-3, 0])).toEqual({ operators: ['Mul', 'Mul'], values: [-6, 0] });
		expect(gradientOf(0.5, [4])).toEqual({ operators: ['Div', 'Mul'], values: [0.25] });
		expect(gradientOf(1, [-3]).operators).toEqual([]);
		expect(gradientOf(0, [0, 5]).values).toBeUndefined();
	});

	it('takes one power otherwise, of negative numbers too', () => {
		expect(gradientOf(3, [-2, 0])).toEqual({ operators: ['Pow', 'Mul', 'Mul'], values: [12, 0] });
		expect(gradientOf(-1, [-2])).toEqual({ operators: ['Pow', 'Mul', 'Mul'], values: [-0.25] });
	});
});
