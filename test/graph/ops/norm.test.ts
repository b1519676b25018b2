/** @file Normalisation: values, statistics, errors. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { sizeOf, tensor, toNumbers } from '../../../src/core/tensor.ts';
import { createBuilder } from '../../../src/graph/builder.ts';
import { gradients } from '../../../src/graph/differentiate.ts';
import { expectClose } from '../../helpers/close.ts';
import { run } from '../../helpers/gradcheck.ts';
import { graphError } from '../../helpers/graph-error.ts';

const f64 = (shape: number[], values: number[]) => tensor('float64', shape, values);
const ramp = (shape: number[], f = (i: number) => i) =>
	f64(
		shape,
		Array.from({ length: sizeOf(shape) }, (_, i) => f(i)),
	);

describe('LayerNormalization', () => {
	it('gives the output, mean and inverse standard deviation', () => {
		const x = f64([2, 2], [1, 3, -2, 4]);
		const results = run((g, v, s, b) => Object.values(g.layerNorm(v!, s!, b!, 0)), [x, f64([2], [1, 10]), f64([2], [0, 5])]);
		expect(results.map((t) => t.shape)).toEqual([
			[2, 2],
			[2, 1],
			[2, 1],
		]);
		expectClose(results[0]!, [-1, 15, -1, 15], { rtol: 1e-14 });
		expectClose(results[1]!, [2, 1], { rtol: 1e-14 });
		expectClose(results[2]!, [1, 1 / 3], { rtol: 1e-14 });
	});

	it('adds epsilon to the variance', () => {
		const [y] = run((g, v, s) => g.layerNorm(v!, s!, undefined, 3).y, [f64([1, 2], [-1, 1]), f64([2], [1, 1])]);
		expectClose(y!, [-0.5, 0.5], { rtol: 1e-14 });
	});

	it('normalises everything from its axis on', () => {
		const results = run((g, v, s) => Object.values(g.layerNorm(v!, s!, undefined, 0, 1)), [ramp([2, 2, 2]), ramp([2, 2], () => 1)]);
		expect(results.map((t) => t.shape)).toEqual([
			[2, 2, 2],
			[2, 1, 1],
			[2, 1, 1],
		]);
		expectClose(results[1]!, [1.5, 5.5], { rtol: 1e-14 });
	});

	it('takes a scale per sample, like a product afterwards', () => {
		const x = ramp([2, 3, 4], (i) => Math.sin(5 * i));
		const scale = ramp([2, 1, 4], (i) => 1 + i / 10);
		const bias = ramp([2, 1, 4], (i) => -i);
		const ones = ramp([4], () => 1);
		const [modulated, spelled] = run(
			(g, v, s, b, one) => [g.layerNorm(v!, s!, b!, 1e-6).y, g.add(g.mul(g.layerNorm(v!, one!, undefined, 1e-6).y, s!), b!)],
			[x, scale, bias, ones],
		);
		expectClose(modulated!, spelled!, { rtol: 1e-12 });
	});

	it('keeps statistics in float32 below half-precision values', () => {
		const g = createBuilder('half');
		const x = g.input('x', 'float16', [2, 4]);
		const { y, mean, invStdDev } = g.layerNorm(x, g.input('s', 'float16', [4]), undefined, 1e-5);
		expect([y.dtype, mean.dtype, invStdDev.dtype]).toEqual(['float16', 'float32', 'float32']);
		const [dx] = gradients(g, [{ value: y, grad: g.input('dy', 'float16', [2, 4]) }], [x]);
		expect(dx?.dtype).toBe('float16');
	});

	/** Operators of the gradient of x, and whether it reads x. */
	const gradientOf = (scale: number, bias: boolean) => {
		const g = createBuilder('ones');
		const x = g.input('x', 'float32', [2, 4]);
		const b = bias ? g.input('b', 'float32', [4]) : undefined;
		const { y } = g.layerNorm(x, g.constant(tensor('float32', [4], [1, 1, 1, scale])), b, 1e-5);
		const forward = g.nodes().length;
		gradients(g, [{ value: y, grad: g.input('dy', 'float32', [2, 4]) }], [x]);
		const nodes = g.nodes().slice(forward);
		return { products: nodes.filter((n) => n.op === 'Mul').length, readsInput: nodes.some((n) => n.inputs.includes(x.name)) };
	};

	it('multiplies by no scale of ones in its gradient', () => {
		expect(gradientOf(1, true).products).toBe(gradientOf(2, true).products - 1);
	});

	it('needs its input no more for the gradient where its output is the normalised input', () => {
		expect(gradientOf(1, false).readsInput).toBe(false);
		expect(gradientOf(1, true).readsInput).toBe(true);
		expect(gradientOf(2, false).readsInput).toBe(true);
	});

	it('says what does not fit', () => {
		const x = { shape: [2, 3, 4] };
		const norm = (scale: number[], attributes = {}) =>
			graphError((g, v, s) => g.emit('LayerNormalization', [v, s], attributes), [x, { shape: scale }]);
		expect(norm([3])).toMatch(/scale \[3\] does not broadcast to the input\n.*expected: \[4\]/);
		expect(norm([5, 1, 1, 4])).toMatch(/does not broadcast to the input/);
		expect(norm([4], { axis: 3 })).toMatch(/axis 3 is out of range/);
		expect(norm([4], { stash_type: 10 })).toMatch(/stash_type 10 is not supported/);
		expect(graphError((g, v, s, b) => g.layerNorm(v!, s!, b!, 0).y, [x, { shape: [4] }, { shape: [2] }])).toMatch(
			/bias \[2\] does not broadcast/,
		);
		expect(graphError((g, v, s) => g.layerNorm(v!, s!, undefined, 0).y, [x, { shape: [4], dtype: 'float64' }])).toMatch(
			/element types differ/,
		);
		expect(graphError((g, v, s) => g.emit('LayerNormalization', [v, s], {}, 4), [x, { shape: [4] }])).toMatch(
			/4 outputs asked for\n.*expected: 1 to 3/,
		);
	});
});

describe('GroupNormalization', () => {
	it('normalises groups of channels and scales each channel', () => {
		const x = f64([1, 4, 1], [1, 3, 10, 30]);
		const [y] = run((g, v, s, b) => g.groupNorm(v!, s!, b!, 2, 0), [x, f64([4], [1, 2, 3, 4]), f64([4], [0, 0, 1, 1])]);
		expectClose(y!, [-1, 2, -2, 5], { rtol: 1e-14 });
	});

	it('with one group per channel is InstanceNormalization', () => {
		const x = ramp([2, 3, 2, 2], (i) => Math.cos(7 * i));
		const [group, instance] = run(
			(g, v, s, b) => [g.groupNorm(v!, s!, b!, 3, 1e-5), g.instanceNorm(v!, s!, b!, 1e-5)],
			[x, f64([3], [1, 2, 3]), f64([3], [0, 1, 2])],
		);
		expectClose(group!, instance!, { rtol: 1e-14 });
	});

	it('has groups of mean 0 and variance 1 on any shape', () => {
		const sizes = fc.record({
			batch: fc.integer({ min: 1, max: 3 }),
			groups: fc.integer({ min: 1, max: 3 }),
			perGroup: fc.integer({ min: 1, max: 3 }),
			plane: fc.integer({ min: 3, max: 5 }),
		});
		fc.assert(
			fc.property(sizes, fc.double({ min: -100, max: 100, noNaN: true }), ({ batch, groups, perGroup, plane }, shift) => {
				const channels = groups * perGroup;
				const x = ramp([batch, channels, plane], (i) => shift + Math.sin(i * i + 1));
				const ones = ramp([channels], () => 1);
				const zeros = ramp([channels], () => 0);
				const [y] = run((g, v, s, b) => g.groupNorm(v!, s!, b!, groups, 0), [x, ones, zeros]);
				const values = toNumbers(y!);
				const length = perGroup * plane;
				for (let r = 0; r < batch * groups; r++) {
					const row = values.slice(r * length, (r + 1) * length);
					const mean = row.reduce((a, b) => a + b, 0) / length;
					expectClose([mean, row.reduce((a, b) => a + b * b, 0) / length], [0, 1], { atol: 1e-9 });
				}
			}),
			{ numRuns: 30 },
		);
	});

	it('says what does not fit', () => {
		const group = (shape: number[], groups: number, scale = [shape[1]!]) =>
			graphError((g, x, s, b) => g.groupNorm(x!, s!, b!, groups, 0), [{ shape }, { shape: scale }, { shape: [shape[1]!] }]);
		expect(group([2, 6, 4], 4)).toMatch(/GroupNormalization.*6 channels do not split into 4 groups/);
		expect(group([2, 6, 4], 0)).toMatch(/do not split into 0 groups/);
		expect(group([2, 6], 2)).toMatch(/no spatial axes\n.*expected: \[batch, channels, ...spatial\]/);
		expect(group([2, 6, 4], 3, [3])).toMatch(/scale \[3\] does not match the channels\n.*expected: \[6\]/);
		expect(graphError((g, x, s) => g.emit('GroupNormalization', [x, s, s]), [{ shape: [1, 2, 3] }, { shape: [2] }])).toMatch(
			/attribute num_groups is missing/,
		);
		expect(
			graphError((g, x, s, b) => g.instanceNorm(x!, s!, b!, 0), [{ shape: [1, 2, 3], dtype: 'int32' }, { shape: [2] }, { shape: [2] }]),
		).toMatch(/a float type/);
	});
});
