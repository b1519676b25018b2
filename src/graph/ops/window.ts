/** @file The sliding window that convolutions and pooling share: its attributes, its output size and the entries it covers. */
import { type Shape, sizeOf } from '../../core/tensor.ts';
import type { AttributeReader, AttributeSpec, InferContext } from '../op.ts';

/** Kernel, strides and dilations per spatial axis; `pads` all begins, then all ends. */
export interface Window {
	readonly kernel: readonly number[];
	readonly strides: readonly number[];
	readonly dilations: readonly number[];
	readonly pads: readonly number[];
}

export const windowAttributes = {
	auto_pad: { kind: 'string', default: 'NOTSET' },
	dilations: { kind: 'ints' },
	kernel_shape: { kind: 'ints' },
	pads: { kind: 'ints' },
	strides: { kind: 'ints' },
} as const satisfies Record<string, AttributeSpec>;

/** The window of a node whose kernel has this size. */
export function windowOf(attributes: AttributeReader, kernel: readonly number[]): Window {
	const given = (name: string, count: number, otherwise: number) =>
		attributes.has(name) ? attributes.ints(name) : new Array<number>(count).fill(otherwise);
	return {
		kernel,
		strides: given('strides', kernel.length, 1),
		dilations: given('dilations', kernel.length, 1),
		pads: given('pads', 2 * kernel.length, 0),
	};
}

/** The same, failing where an attribute does not fit. */
export function checkWindow(ctx: InferContext, kernel: readonly number[]): Window {
	const { attributes } = ctx;
	const axes = kernel.length;
	const padding = attributes.string('auto_pad');
	if (padding !== 'NOTSET') ctx.fail(`auto_pad ${padding} is not supported`, 'NOTSET, with the padding written as pads');
	if (attributes.has('kernel_shape') && attributes.ints('kernel_shape').join() !== kernel.join()) {
		ctx.fail(`kernel_shape [${attributes.ints('kernel_shape')}] is not that of the weight`, `[${kernel}]`);
	}
	const window = windowOf(attributes, kernel);
	const check = (name: keyof Window, count: number, least: number) => {
		const values = window[name];
		if (values.length !== count || values.some((v) => v < least)) {
			ctx.fail(`${name === 'kernel' ? 'kernel_shape' : name} [${values}] does not fit`, `${count} numbers of at least ${least}`);
		}
	};
	check('kernel', axes, 1);
	check('strides', axes, 1);
	check('dilations', axes, 1);
	check('pads', 2 * axes, 0);
	return window;
}

/** Entries of axis `i` between the first and last that one window covers. */
export function reach({ kernel, dilations }: Window, i: number): number {
	return dilations[i]! * (kernel[i]! - 1) + 1;
}

/** Number of places of the window along every axis of an image of size `spatial`; fails when the window is larger than the padded image. */
export function windowPlaces(ctx: InferContext, window: Window, spatial: Shape): number[] {
	return spatial.map((length, i) => {
		const padded = length + window.pads[i]! + window.pads[spatial.length + i]!;
		const span = reach(window, i);
		if (span > padded) ctx.fail(`the window covers ${span} entries of axis ${i + 2}, which has ${padded} with its padding`);
		return Math.floor((padded - span) / window.strides[i]!) + 1;
	});
}

/** Zeros to add behind `small` places of the window so that going back gives exactly `large` entries: what ConvTranspose calls output_padding. */
export function leftover(window: Window, large: Shape, small: Shape): number[] {
	const axes = large.length;
	return large.map(
		(length, i) => length + window.pads[i]! + window.pads[axes + i]! - reach(window, i) - window.strides[i]! * (small[i]! - 1),
	);
}

/**
 * For every place of the window (outer) and every tap of the kernel (inner), the flat entry of the image it covers; -1 in the padding.
 * Both are row-major over the spatial axes.
 */
export function tapTable(window: Window, image: Shape, places: Shape): Int32Array {
	const { kernel, strides, dilations, pads } = window;
	const taps = sizeOf(kernel);
	const table = new Int32Array(sizeOf(places) * taps);
	const digits = (n: number, shape: Shape) => {
		const out = new Array<number>(shape.length);
		for (let i = shape.length - 1; i >= 0; i--) {
			out[i] = n % shape[i]!;
			n = Math.floor(n / shape[i]!);
		}
		return out;
	};
	const tapAt = Array.from({ length: taps }, (_, t) => digits(t, kernel));
	for (let p = 0; p * taps < table.length; p++) {
		const place = digits(p, places);
		for (let t = 0; t < taps; t++) {
			let flat = 0;
			for (let i = 0; i < image.length; i++) {
				const at = place[i]! * strides[i]! + tapAt[t]![i]! * dilations[i]! - pads[i]!;
				flat = flat < 0 || at < 0 || at >= image[i]! ? -1 : flat * image[i]! + at;
			}
			table[p * taps + t] = flat;
		}
	}
	return table;
}
