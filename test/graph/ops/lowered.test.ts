/** @file Fused operators against the plain ones they stand for. */
import { describe, expect, it } from 'vitest';
import { createBuilder, type GraphBuilder } from '../../../src/graph/builder.ts';
import { gradients } from '../../../src/graph/differentiate.ts';
import type { Value } from '../../../src/graph/types.ts';
import { expectClose } from '../../helpers/close.ts';
import { randomInputs, run } from '../../helpers/gradcheck.ts';

type Build = (g: GraphBuilder, ...xs: Value[]) => Value;

/** Throws unless both functions give the same on random inputs of these shapes. */
function same(shapes: readonly (readonly number[])[], fused: Build, plain: Build, rtol = 1e-12): void {
	const inputs = randomInputs(
		shapes.map((shape) => ({ shape })),
		'float64',
	);
	const [a] = run(fused, inputs);
	const [b] = run(plain, inputs);
	expect(a!.shape).toEqual(b!.shape);
	expectClose(a!, b!, { rtol, atol: 1e-12 });
}

describe('FusedMatMul', () => {
	it('transposes and scales', () => {
		same(
			[
				[2, 4, 3],
				[5, 4],
			],
			(g, a, b) => g.one('FusedMatMul', [a, b], { alpha: 0.25, transA: 1, transB: 1 }),
			(g, a, b) => g.mul(g.matMul(g.transpose(a!, [0, 2, 1]), g.transpose(b!, [1, 0])), 0.25),
		);
	});

	it('moves the first axis behind the batch, then transposes', () => {
		same(
			[
				[3, 2, 5, 4],
				[6, 2, 5, 4],
			],
			(g, a, b) => g.one('FusedMatMul', [a, b], { transBatchA: 1, transBatchB: 1, transB: 1 }),
			(g, a, b) => g.matMul(g.transpose(a!, [1, 2, 0, 3]), g.transpose(b!, [1, 2, 3, 0])),
		);
	});

	it('says what does not fit', () => {
		const g = createBuilder('t');
		const [a, b] = [g.input('a', 'float32', [2, 3]), g.input('b', 'float32', [3, 2])];
		expect(() => g.one('FusedMatMul', [a, b], { transA: 1 })).toThrow('inner dimensions 2 and 3 differ');
		expect(() => g.one('FusedMatMul', [a, b], { transBatchA: 1 })).toThrow('one rank of at least three');
		expect(() => g.one('FusedMatMul', [a, g.input('c', 'float64', [3, 2])])).toThrow('element types differ');
	});
});

describe('activations', () => {
	const shapes = [[2, 3, 4], [4]];

	it('add their bias first', () => {
		same(
			shapes,
			(g, x, b) => g.one('FastGelu', [x, b]),
			(g, x, b) => g.gelu(g.add(x!, b!), 'tanh'),
		);
		same(
			shapes,
			(g, x, b) => g.one('BiasGelu', [x, b]),
			(g, x, b) => g.gelu(g.add(x!, b!)),
		);
		same(
			[[2, 3]],
			(g, x) => g.one('FastGelu', [x]),
			(g, x) => g.gelu(x!, 'tanh'),
		);
		same(
			[[2, 3]],
			(g, x) => g.one('QuickGelu', [x]),
			(g, x) => g.mul(x!, g.sigmoid(g.mul(x!, 1.702))),
		);
	});

	it('say what does not fit', () => {
		const g = createBuilder('t');
		const x = g.input('x', 'float32', [2, 3]);
		expect(() => g.one('BiasGelu', [x, g.input('b', 'float32', [2])])).toThrow('input 1 does not fit\n  expected: float32[3]');
		expect(() => g.one('BiasGelu', [x])).toThrow('1 inputs given');
		expect(() => g.one('QuickGelu', [g.input('i', 'int64', [2])])).toThrow('float type');
	});
});

describe('SkipLayerNormalization', () => {
	const shapes = [[2, 3, 4], [3, 4], [4], [4], [4]];
	const inputs = randomInputs(
		shapes.map((shape) => ({ shape })),
		'float64',
	);

	it('normalises the sum with the skip and the bias', () => {
		const [y, mean, inverse, sum] = run((g, ...xs) => g.emit('SkipLayerNormalization', xs, { epsilon: 1e-3 }, 4), inputs);
		const [y2, mean2, inverse2, sum2] = run((g, x, skip, gamma, beta, bias) => {
			const total = g.add(g.add(x!, skip!), bias!);
			const { y, mean, invStdDev } = g.layerNorm(total, gamma!, beta, 1e-3);
			return [y, mean, invStdDev, total];
		}, inputs);
		expectClose(y!, y2!, { rtol: 1e-10, atol: 1e-10 });
		expectClose(sum!, sum2!, { rtol: 1e-12 });
		expectClose(mean!, mean2!, { rtol: 1e-6, atol: 1e-7 });
		expectClose(inverse!, inverse2!, { rtol: 1e-6 });
		expect([mean!.dtype, mean!.shape]).toEqual(['float32', [2, 3, 1]]);
	});

	it('says what does not fit', () => {
		const g = createBuilder('t');
		const [x, gamma] = [g.input('x', 'float32', [2, 3, 4]), g.input('gamma', 'float32', [4])];
		const skip =
			(...shape: number[]) =>
			() =>
				g.one('SkipLayerNormalization', [x, g.input(`s${shape}`, 'float32', shape), gamma]);
		expect(skip(2, 1, 4)).toThrow('skip does not fit the input\n  expected: float32[2,3,4] or float32[1,3,4] or float32[3,4]');
		expect(() => g.one('SkipLayerNormalization', [x, x, g.input('g3', 'float32', [3])])).toThrow('input 2 does not fit');
	});
});

it('exists after differentiation only', () => {
	const g = createBuilder('t');
	const x = g.input('x', 'float32', [2, 3]);
	const y = g.one('QuickGelu', [x]);
	expect(() => gradients(g, [{ value: y, grad: y }], [x])).toThrow('operator QuickGelu has no gradient (lowered)');
});
