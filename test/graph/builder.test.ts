import { describe, expect, it } from 'vitest';
import { DiffusionPipeError } from '../../src/core/errors.ts';
import { tensor } from '../../src/core/tensor.ts';
import { createBuilder, type GraphBuilder } from '../../src/graph/builder.ts';
import { checkGraph } from '../../src/graph/check.ts';
import { evaluateGraph } from '../../src/graph/evaluate.ts';

describe('createBuilder', () => {
	it('infers types as it goes and names values after their layer', () => {
		const g = createBuilder('net');
		const x = g.input('x', 'float32', [2, 3]);
		const y = g.scope('down.0', () => g.scope('attn', () => g.matMul(x, g.input('w', 'float32', [3, 5]))));
		expect(y).toMatchObject({ dtype: 'float32', shape: [2, 5] });
		expect(y.name).toMatch(/^down\.0\.attn\/MatMul_\d+$/);
		expect(g.nodes()[0]).toMatchObject({ op: 'MatMul', inputs: ['x', 'w'], scope: 'down.0.attn', attributes: {} });
	});

	it('leaves a scope also when its body throws', () => {
		const g = createBuilder('net');
		const x = g.input('x', 'float32', [2]);
		expect(() =>
			g.scope('broken', () => {
				throw new Error('no');
			}),
		).toThrow('no');
		g.neg(x);
		expect(g.nodes()[0]!.scope).toBe('');
	});

	it('makes a small constant once', () => {
		const g = createBuilder('net');
		expect(g.scalar(2)).toBe(g.scalar(2));
		expect(g.ints([1, 2])).toBe(g.ints([1, 2]));
		expect(g.scalar(0)).not.toBe(g.scalar(-0));
		expect(g.scalar(1)).not.toBe(g.scalar(1, 'float64'));
		expect(g.constantOf(g.ints([1, 2]))).toEqual([1, 2]);
		expect(g.constantOf(g.input('x', 'int64', [2]))).toBeUndefined();
	});

	it('turns numbers into constants of the other operand’s type', () => {
		const g = createBuilder('net');
		const x = g.input('x', 'float64', [2]);
		const n = g.input('n', 'int64', [2]);
		expect([g.add(x, 1).dtype, g.sub(1, n).dtype, g.where(g.less(n, 3), x, 0).dtype]).toEqual(['float64', 'int64', 'float64']);
	});

	it('goes on from a graph without changing it', () => {
		const g = createBuilder('base');
		const x = g.input('x', 'float32', [2]);
		const y = g.exp(x);
		const base = g.finish([y]);
		const more = createBuilder('more', base);
		const grown = more.finish([more.neg(more.add(y, more.scalar(1)))]);
		checkGraph(grown, 'growing');
		expect(base.nodes).toHaveLength(1);
		expect(grown.nodes.map((n) => n.op)).toEqual(['Exp', 'Add', 'Neg']);
		const [result] = evaluateGraph(grown, new Map([[x.name, tensor('float32', [2], [0, 1])]])).values();
		expect(Array.from(result!.data as Float32Array)).toEqual([-2, Math.fround(-Math.fround(Math.fround(Math.E) + 1))]);
	});

	const f = (g: GraphBuilder, ...shapes: number[][]) => shapes.map((shape, i) => g.input(`x${i}`, 'float32', shape));
	it.each<[string, (g: GraphBuilder) => unknown, RegExp]>([
		[
			'shapes that do not multiply',
			(g) => g.matMul(f(g, [2, 3])[0]!, g.input('w', 'float32', [4, 5])),
			/^mid\.0: MatMul\(float32\[2,3\], float32\[4,5\]\): /,
		],
		[
			'shapes that do not broadcast',
			(g) => g.add(f(g, [2, 3])[0]!, g.input('b', 'float32', [2])),
			/^mid\.0: Add\(float32\[2,3\], float32\[2\]\): float32\[2\] does not broadcast with \[2,3\]/,
		],
		['element types that differ', (g) => g.mul(f(g, [2])[0]!, g.input('n', 'int64', [2])), /^mid\.0: Mul\(float32\[2\], int64\[2\]\): /],
		[
			'an axis out of range',
			(g) => g.softmax(f(g, [2, 3])[0]!, 2),
			/^mid\.0: Softmax\(float32\[2,3\]\): axis 2 is out of range\n {2}expected: -2 to 1/,
		],
		['a reshape to another size', (g) => g.reshape(f(g, [2, 3])[0]!, [4, 2]), /^mid\.0: Reshape\(float32\[2,3\], int64\[2\]\): /],
		['a reshape with a rest', (g) => g.reshape(f(g, [2, 3])[0]!, [4, -1]), /^mid\.0: Reshape\(float32\[2,3\], int64\[2\]\): /],
		[
			'a shape that is not constant',
			(g) => g.emit('Reshape', [f(g, [6])[0]!, g.input('s', 'int64', [1])]),
			/^mid\.0: Reshape\(.*\): input 1 \(s\) must be a constant/,
		],
		['a split of another size', (g) => g.split(f(g, [5])[0]!, [2, 2], 0), /^mid\.0: Split\(float32\[5\], int64\[2\]\): /],
		['a name that is taken', (g) => [g.input('x', 'float32', []), g.input('x', 'float32', [])], /^graph net: value x is declared twice/],
		[
			'a value of another graph',
			(g) => g.neg(createBuilder('other').input('far', 'float32', [2])),
			/^mid\.0: Neg: input far belongs to another graph/,
		],
	])('refuses %s, naming operator, shapes and layer', (_, build, message) => {
		const make = () => {
			const g = createBuilder('net');
			g.scope('mid', () => g.scope('0', () => build(g)));
		};
		expect(make).toThrow(DiffusionPipeError);
		expect(make).toThrow(message);
	});
});
