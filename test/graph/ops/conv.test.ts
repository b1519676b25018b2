/** @file Convolutions against loops written out, the form of their gradients, and their errors. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { sizeOf, type Tensor, tensor, toNumbers } from '../../../src/core/tensor.ts';
import type { ConvOptions } from '../../../src/graph/builder/product.ts';
import { createBuilder, type GraphBuilder } from '../../../src/graph/builder.ts';
import { gradients } from '../../../src/graph/differentiate.ts';
import { extract } from '../../../src/graph/extract.ts';
import { ops } from '../../../src/graph/ops/index.ts';
import type { Value } from '../../../src/graph/types.ts';
import { expectClose } from '../../helpers/close.ts';
import { gradcheck, randomInputs, run } from '../../helpers/gradcheck.ts';

const counted = (shape: readonly number[], from = 1) =>
	tensor(
		'float32',
		shape,
		Array.from({ length: sizeOf(shape) }, (_, i) => i + from),
	);

/** A whole random convolution of two spatial axes. */
const options = fc
	.record({
		batch: fc.integer({ min: 1, max: 2 }),
		group: fc.integer({ min: 1, max: 3 }),
		inPerGroup: fc.integer({ min: 1, max: 2 }),
		outPerGroup: fc.integer({ min: 1, max: 2 }),
		image: fc.tuple(fc.integer({ min: 1, max: 5 }), fc.integer({ min: 1, max: 5 })),
		kernel: fc.tuple(fc.integer({ min: 1, max: 3 }), fc.integer({ min: 1, max: 3 })),
		strides: fc.tuple(fc.integer({ min: 1, max: 3 }), fc.integer({ min: 1, max: 3 })),
		dilations: fc.tuple(fc.integer({ min: 1, max: 2 }), fc.integer({ min: 1, max: 2 })),
		pads: fc.tuple(...[0, 1, 2, 3].map(() => fc.integer({ min: 0, max: 2 }))),
	})
	.filter(({ image, kernel, dilations, pads }) =>
		image.every((d, i) => d + pads[i]! + pads[i + 2]! >= dilations[i]! * (kernel[i]! - 1) + 1),
	);

describe('Conv', () => {
	it('correlates, channel by channel, and adds the bias', () => {
		const x = counted([1, 2, 2, 3]);
		const w = tensor('float32', [1, 2, 1, 2], [1, 2, 10, 20]);
		const [y] = run((g, a, b, c) => g.conv(a!, b!, c), [x, w, tensor('float32', [1], [0.5])]);
		expect(y!.shape).toEqual([1, 1, 2, 2]);
		expect(toNumbers(y!)).toEqual([1 + 4 + 70 + 160, 2 + 6 + 80 + 180, 4 + 10 + 100 + 220, 5 + 12 + 110 + 240].map((v) => v + 0.5));
	});

	it('agrees with sums written out for any stride, padding, dilation and group', () => {
		fc.assert(
			fc.property(options, ({ batch, group, inPerGroup, outPerGroup, image, kernel, strides, dilations, pads }) => {
				const [cin, cout] = [group * inPerGroup, group * outPerGroup];
				const [x, w] = randomInputs([{ shape: [batch, cin, ...image] }, { shape: [cout, inPerGroup, ...kernel] }], 'float64');
				const [y] = run((g, a, b) => g.conv(a!, b!, undefined, { strides, dilations, pads, group }), [x!, w!]);
				const [xs, ws] = [toNumbers(x!), toNumbers(w!)];
				const expected: number[] = [];
				const [, , rows, columns] = y!.shape as [number, number, number, number];
				for (let n = 0; n < batch; n++)
					for (let o = 0; o < cout; o++)
						for (let r = 0; r < rows; r++)
							for (let c = 0; c < columns; c++) {
								let sum = 0;
								for (let k = 0; k < inPerGroup; k++)
									for (let i = 0; i < kernel[0]; i++)
										for (let j = 0; j < kernel[1]; j++) {
											const h = r * strides[0] + i * dilations[0] - pads[0]!;
											const v = c * strides[1] + j * dilations[1] - pads[1]!;
											if (h < 0 || v < 0 || h >= image[0] || v >= image[1]) continue;
											const channel = Math.floor(o / outPerGroup) * inPerGroup + k;
											sum +=
												xs[((n * cin + channel) * image[0] + h) * image[1] + v]! *
												ws[((o * inPerGroup + k) * kernel[0] + i) * kernel[1] + j]!;
										}
								expected.push(sum);
							}
				expectClose(y!, expected, { rtol: 1e-12, atol: 1e-12 });
			}),
			{ numRuns: 60 },
		);
	});

	it('has the gradients of central differences for any stride, padding, dilation and group', () => {
		fc.assert(
			fc.property(options, ({ batch, group, inPerGroup, outPerGroup, image, kernel, ...rest }) => {
				const weight = { shape: [group * outPerGroup, inPerGroup, ...kernel] };
				gradcheck((g, x, w) => g.conv(x!, w!, undefined, { ...rest, group }), [{ shape: [batch, group * inPerGroup, ...image] }, weight]);
			}),
			{ numRuns: 25 },
		);
	});

	it('takes the weight gradient of many channels as a convolution: <dw, v> = <dy, conv(x, v)> for any window', () => {
		const check = (x: readonly number[], w: readonly number[], window: ConvOptions) => {
			const inputs = randomInputs([{ shape: x }, { shape: w }, { shape: w }], 'float64');
			const [y] = run((g, a, v) => g.conv(a!, v!, undefined, window), [inputs[0]!, inputs[2]!]);
			const [dy] = randomInputs([{ shape: y!.shape }], 'float64', 2);
			const [dw] = run(
				(g, a, b, d) => {
					const made = gradients(g, [{ value: g.conv(a!, b!, undefined, window), grad: d! }], [b!])[0]!;
					expect(g.nodes().map((n) => n.op)).toContain('Conv');
					expect(g.nodes().map((n) => n.op)).not.toContain('MatMul');
					return made;
				},
				[inputs[0]!, inputs[1]!, dy!],
			);
			const inner = (a: Tensor, b: Tensor) => {
				const [as, bs] = [toNumbers(a), toNumbers(b)];
				return as.reduce((sum, value, i) => sum + value * bs[i]!, 0);
			};
			expect(dw!.shape).toEqual(w);
			expect(inner(dw!, inputs[2]!)).toBeCloseTo(inner(dy!, y!), 8);
		};
		fc.assert(
			fc.property(options, ({ batch, outPerGroup, image, kernel, strides, dilations, pads }) => {
				fc.pre(kernel[0] * kernel[1] > 1);
				check([batch, 16, ...image], [outPerGroup, 16, ...kernel], { strides, dilations, pads });
			}),
			{ numRuns: 40 },
		);
		fc.assert(
			fc.property(options, ({ batch, outPerGroup, image, kernel, dilations, pads }) => {
				fc.pre(kernel[0] * kernel[1] > 1);
				// Fewer outputs than inputs, with paddings within the kernel's reach and beyond it.
				check([batch, 16 + outPerGroup, ...image], [16, 16 + outPerGroup, ...kernel], { dilations, pads });
			}),
			{ numRuns: 40 },
		);
		check([2, 17, 9], [3, 17, 4], { strides: [2], pads: [1, 2] });
		check([2, 17, 9], [16, 17, 3], { dilations: [2], pads: [1, 2] });
		check([1, 17, 32, 32], [16, 17, 3, 2], { pads: [1, 1, 1, 0] });
		// Places in a multiple of 1024 have a column of zeros more.
		check([1, 16, 32, 32], [2, 16, 3, 2], { pads: [1, 1, 1, 0] });
		check([2, 16, 32, 66], [2, 16, 1, 3], { strides: [2, 2], dilations: [1, 2], pads: [0, 1, 0, 2] });
	});

	const backward = (build: (g: GraphBuilder, x: Value, w: Value) => Value, which: 'x' | 'w') => {
		const g = createBuilder('t');
		const x = g.input('x', 'float32', [2, 4, 8, 8]);
		const w = g.input('w', 'float32', [6, 4, 3, 3]);
		const y = build(g, x, w);
		const dy = g.input('dy', 'float32', y.shape);
		const [dx, dw] = gradients(g, [{ value: y, grad: dy }], [x, w]);
		const whole = g.finish([dx!, dw!]);
		return extract(whole, 'b', whole.inputs, [(which === 'x' ? dx : dw)!.name]).nodes.map((n) => n.op);
	};
	const count = (names: readonly string[], op: string) => names.filter((n) => n === op).length;

	it('takes the input gradient as a convolution where the stride is 1, else as a transposed one', () => {
		const same = backward((g, x, w) => g.conv(x, w, undefined, { pads: [1, 1, 1, 1] }), 'x');
		expect([count(same, 'Conv'), count(same, 'ConvTranspose')]).toEqual([1, 0]);
		const down = backward((g, x, w) => g.conv(x, w, undefined, { pads: [1, 1, 1, 1], strides: [2, 2] }), 'x');
		expect(down).toEqual(['ConvTranspose']);
	});

	it('takes the weight gradient of few channels as one product per tap, padding and moving the image once', () => {
		const names = backward((g, x, w) => g.conv(x, w, undefined, { pads: [1, 1, 1, 1] }), 'w');
		expect([count(names, 'MatMul'), count(names, 'Pad'), count(names, 'Slice'), count(names, 'Concat')]).toEqual([9, 1, 9, 1]);
	});

	it('counts its multiply-accumulates', () => {
		const types = [
			{ dtype: 'float32', shape: [2, 4, 8, 8] },
			{ dtype: 'float32', shape: [6, 2, 3, 3] },
		] as const;
		const attributes = { int: () => 0, float: () => 0, string: () => '', ints: () => [], has: () => false };
		expect(ops.Conv.macs!(types, [{ dtype: 'float32', shape: [2, 6, 8, 8] }], attributes)).toBe(2 * 6 * 64 * 2 * 9);
		expect(ops.ConvTranspose.macs!([types[1], types[0]], [], attributes)).toBe(6 * 2 * 9 * 4 * 64);
	});

	const build =
		(x: readonly number[], w: readonly number[], o: ConvOptions = {}, bias?: readonly number[]) =>
		() => {
			const g = createBuilder('unet');
			g.scope('down.0', () =>
				g.conv(g.input('x', 'float32', x), g.input('w', 'float32', w), bias ? g.input('b', 'float32', bias) : undefined, o),
			);
		};

	it('names the place and what is wrong', () => {
		expect(build([1, 3, 4, 4], [2, 4, 3, 3])).toThrow(
			'down.0: Conv(float32[1,3,4,4], float32[2,4,3,3]): the weight takes 4 channels\n  expected: 3',
		);
		expect(build([1, 3, 4, 4], [2, 3, 3])).toThrow('same rank');
		expect(build([1, 3, 4, 4], [2, 3, 3, 3], { group: 2 })).toThrow('group 2 does not divide');
		expect(build([1, 3, 4, 4], [2, 3, 3, 3], { pads: [1, 1] })).toThrow('pads [1,1] does not fit');
		expect(build([1, 3, 4, 4], [2, 3, 3, 3], { strides: [0, 1] })).toThrow('strides [0,1]');
		expect(build([1, 3, 4, 4], [2, 3, 5, 5])).toThrow('the window covers 5 entries of axis 2, which has 4');
		expect(build([1, 3, 4, 4], [2, 3, 3, 3], {}, [3])).toThrow('bias');
		const g = createBuilder('t');
		const xs = [g.input('x', 'float32', [1, 3, 4, 4]), g.input('w', 'float32', [2, 3, 3, 3])];
		expect(() => g.one('Conv', xs, { auto_pad: 'SAME_UPPER' })).toThrow('auto_pad SAME_UPPER is not supported');
		expect(() => g.one('Conv', xs, { kernel_shape: [2, 2] })).toThrow('kernel_shape [2,2]');
		expect(() => g.one('Conv', [xs[0], g.input('v', 'float64', [2, 3, 3, 3])])).toThrow('element types differ');
	});
});

describe('ConvTranspose', () => {
	it('spreads the kernel over the output', () => {
		const x = tensor('float32', [1, 1, 2], [1, 10]);
		const w = tensor('float32', [1, 1, 3], [1, 2, 3]);
		const [y] = run((g, a, b) => g.convTranspose(a!, b!, undefined, { strides: [2], outputPadding: [1] }), [x, w]);
		expect(toNumbers(y!)).toEqual([1, 2, 3 + 10, 20, 30, 0]);
	});

	it('is the transpose of the convolution with the same weight: <conv(x), y> = <x, convTranspose(y)>', () => {
		fc.assert(
			fc.property(options, ({ batch, group, inPerGroup, outPerGroup, image, kernel, ...window }) => {
				const [cin, cout] = [group * inPerGroup, group * outPerGroup];
				const { strides, dilations, pads } = window;
				const places = image.map((d, i) => {
					const padded = d + pads[i]! + pads[i + 2]! - dilations[i]! * (kernel[i]! - 1) - 1;
					return { count: Math.floor(padded / strides[i]!) + 1, rest: padded % strides[i]! };
				});
				const [x, w, y] = randomInputs(
					[
						{ shape: [batch, cin, ...image] },
						{ shape: [cout, inPerGroup, ...kernel] },
						{ shape: [batch, cout, ...places.map((p) => p.count)] },
					],
					'float64',
				);
				const [there] = run((g, a, b) => g.conv(a!, b!, undefined, { ...window, group }), [x!, w!]);
				const outputPadding = places.map((p) => p.rest);
				const [back] = run((g, a, b) => g.convTranspose(a!, b!, undefined, { ...window, group, outputPadding }), [y!, w!]);
				const inner = (a: number[], b: number[]) => a.reduce((sum, v, i) => sum + v * b[i]!, 0);
				expect(back!.shape).toEqual(x!.shape);
				expect(inner(toNumbers(there!), toNumbers(y!))).toBeCloseTo(inner(toNumbers(x!), toNumbers(back!)), 10);
			}),
			{ numRuns: 60 },
		);
	});

	it('refuses what it does not do, by name', () => {
		const g = createBuilder('t');
		const xs = [g.input('x', 'float32', [1, 3, 4]), g.input('w', 'float32', [3, 2, 3])];
		expect(() => g.one('ConvTranspose', xs, { output_shape: [8] })).toThrow('output_shape is not supported');
		expect(() => g.one('ConvTranspose', xs, { strides: [2], output_padding: [2] })).toThrow('output_padding [2]');
		expect(() => g.one('ConvTranspose', xs, { pads: [3, 3] })).toThrow('leave nothing of axis 2');
		expect(() => g.one('ConvTranspose', [xs[0], g.input('v', 'float32', [2, 2, 3])])).toThrow('the weight takes 2 channels');
	});
});
