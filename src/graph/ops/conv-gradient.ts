/**
 * @file Gradients of convolutions, spelled in the operators that run fast on one core: the input's as a convolution with flipped weights,
 * the weight's as a convolution over channels, or one matrix product for every tap of the kernel.
 */
import { sizeOf } from '../../core/tensor.ts';
import type { GraphBuilder } from '../builder.ts';
import type { VjpContext } from '../op.ts';
import type { Value } from '../types.ts';
import { range } from './move.ts';
import { swapLast } from './product.ts';
import { leftover, reach, type Window, windowOf } from './window.ts';

const spatialOf = (x: Value): readonly number[] => x.shape.slice(2);

/** Sum over everything but the channels. */
const biasGradient = (g: GraphBuilder, dy: Value): Value => g.reduceSum(dy, [0, ...range(dy.shape.length - 2, 2)], false);

/** Gradients of Conv: x [batch, in, ...spatial], weight [out, in/group, ...kernel], bias [out]. */
export function convVjp(ctx: VjpContext): readonly (Value | undefined)[] {
	const { g, needs } = ctx;
	const [x, w, dy] = [ctx.input(0), ctx.input(1), ctx.grad()];
	const group = ctx.attributes.int('group');
	const window = windowOf(ctx.attributes, spatialOf(w));
	return [
		needs[0] ? inputGradient(g, dy, w, window, group, spatialOf(x)) : undefined,
		needs[1] ? weightGradient(g, x, dy, window, group) : undefined,
		needs[2] ? biasGradient(g, dy) : undefined,
	];
}

/** Gradients of ConvTranspose, which is a convolution with image and places exchanged: x takes the part of the output. */
export function convTransposeVjp(ctx: VjpContext): readonly (Value | undefined)[] {
	const { g, needs } = ctx;
	const [x, w, dy] = [ctx.input(0), ctx.input(1), ctx.grad()];
	const group = ctx.attributes.int('group');
	const window = windowOf(ctx.attributes, spatialOf(w));
	const { strides, dilations, pads } = window;
	return [
		needs[0] ? g.conv(dy, w, undefined, { strides, dilations, pads, group }) : undefined,
		needs[1] ? weightGradient(g, dy, x, window, group) : undefined,
		needs[2] ? biasGradient(g, dy) : undefined,
	];
}

function inputGradient(g: GraphBuilder, dy: Value, w: Value, window: Window, group: number, image: readonly number[]): Value {
	const { kernel, strides, dilations, pads } = window;
	const axes = kernel.length;
	const mirrored = pads.map((p, i) => reach(window, i % axes) - 1 - p);
	if (strides.every((s) => s === 1) && mirrored.every((p) => p >= 0)) {
		return g.conv(dy, flipped(g, w, group), undefined, { dilations, pads: mirrored, group });
	}
	const outputPadding = leftover(window, image, spatialOf(dy));
	return g.convTranspose(dy, w, undefined, { strides, dilations, pads, group, outputPadding });
}

/**
 * The weight of the transposed convolution as a plain one: [out, in/group, ...kernel] to [in, out/group, ...kernel], every kernel turned
 * round. Kernels are turned while whole rows of outputs stand behind them: turning them as the last axis would move single elements.
 */
function flipped(g: GraphBuilder, w: Value, group: number): Value {
	const [out, perGroup, ...kernel] = w.shape as [number, number, ...number[]];
	const taps = sizeOf(kernel);
	const outputsLast = g.transpose(g.reshape(w, [group, out / group, perGroup * taps]), [0, 2, 1]);
	const shape = [group * perGroup, out / group, ...kernel];
	if (taps === 1) return g.reshape(outputsLast, shape);
	const turned = g.slice(g.reshape(outputsLast, [group * perGroup, taps, out / group]), [-1], [-taps - 1], [1], [-1]);
	return g.reshape(g.transpose(turned, [0, 2, 1]), shape);
}

/** Channels of an image from which a run of them is worth copying at once. */
const manyChannels = 16;

/** [batch, channels, ...spatial] to [channels, batch, ...spatial]. Spatial axes are one axis meanwhile: with three axes it is whole images that move. */
function channelsFirst(g: GraphBuilder, x: Value): Value {
	const [batch, channels, ...rest] = x.shape as [number, number, ...number[]];
	const moved = batch === 1 || channels === 1 ? x : g.transpose(g.reshape(x, [batch, channels, sizeOf(rest)]), [1, 0, 2]);
	return g.reshape(moved, [channels, batch, ...rest]);
}

/** Gradient of a weight [out, in/group, ...kernel] from the image the window slides over and what flows to its places. */
function weightGradient(g: GraphBuilder, image: Value, flow: Value, window: Window, group: number): Value {
	const { kernel, strides, dilations, pads } = window;
	const [inputs, outputs] = [image.shape[1]!, flow.shape[1]!];
	const axes = kernel.length;
	if (group > 1 || axes > 2 || sizeOf(kernel) === 1) return weightGradientByTaps(g, image, flow, window, group);
	const mirrored = pads.map((p, i) => reach(window, i % axes) - 1 - p);
	if (outputs >= manyChannels && outputs < inputs && strides.every((s) => s === 1) && mirrored.every((p) => p >= 0)) {
		// From the other side: what flows is the image then, and taps come in the opposite order.
		const turned = crossCorrelation(g, flow, image, { kernel, strides, dilations, pads: mirrored });
		const taps = sizeOf(kernel);
		const ordered = g.slice(g.reshape(turned, [inputs, taps, outputs]), [-1], [-taps - 1], [1], [-1]);
		return g.reshape(g.transpose(g.reshape(ordered, [inputs * taps, outputs]), [1, 0]), [outputs, inputs, ...kernel]);
	}
	if (inputs < manyChannels) return weightGradientByTaps(g, image, flow, window, group);
	const met = crossCorrelation(g, image, flow, window);
	return g.reshape(g.transpose(g.reshape(met, [outputs, sizeOf(kernel), inputs]), [0, 2, 1]), [outputs, inputs, ...kernel]);
}

/** A row length in elements at which rows fall on the same places of the first-level cache, which costs products a tenth; and columns of which one more is little. */
const aliased = { row: 1024, columns: 16 };

/**
 * For every pair of a channel of `flow` and one of `image` and every tap, the sum over samples and places of what the tap meets: [of flow, ...kernel, of
 * image]. As a convolution of one image, whose kernel is what flows: batch takes the part of channels, channels that of an innermost spatial axis, so that
 * what a tap meets is copied in runs of channels, into cache, by the convolution itself; best for an image of the fewer channels. Strides and dilations
 * exchange their parts.
 */
function crossCorrelation(g: GraphBuilder, image: Value, flow: Value, { kernel, strides, dilations, pads }: Window): Value {
	const axes = kernel.length;
	const [batch, inner] = image.shape as [number, number];
	const places = spatialOf(flow);
	const channelsLast = g.transpose(g.reshape(image, [batch, inner, sizeOf(spatialOf(image))]), [0, 2, 1]);
	const lined = g.reshape(channelsLast, [1, batch, ...spatialOf(image), inner]);
	// A column of zeros in what flows, met by one more column of padding.
	const extra = (batch * sizeOf(places)) % aliased.row === 0 && places[axes - 1]! >= aliased.columns ? 1 : 0;
	const apart = extra ? g.pad(flow, [...new Array<number>(2 * axes + 3).fill(0), 1]) : flow;
	const taps = g.reshape(channelsFirst(g, apart), [flow.shape[1]!, batch, ...spatialOf(apart), 1]);
	const begins = pads.slice(0, axes);
	const ends = pads.slice(axes).map((p, i) => p + (i === axes - 1 ? extra * strides[i]! : 0));
	const met = g.conv(lined, taps, undefined, {
		strides: [...dilations, 1],
		dilations: [...strides, 1],
		pads: [...begins, 0, ...ends, 0],
	});
	if (kernel.every((k, i) => met.shape[i + 2] === k)) return met;
	const zeros = kernel.map(() => 0);
	return g.slice(met, zeros, kernel, range(axes, 2));
}

/**
 * The gradient tap by tap: the entries a tap meets form a matrix [in, batch * places], and its slice of the gradient is the product of the two. Channels are
 * brought to the front once for all taps; groups are a batch axis of the product.
 */
function weightGradientByTaps(g: GraphBuilder, image: Value, flow: Value, window: Window, group: number): Value {
	const { kernel, strides, dilations, pads } = window;
	const places = spatialOf(flow);
	const [inputs, outputs, columns] = [image.shape[1]!, flow.shape[1]!, flow.shape[0]! * sizeOf(places)];
	const axes = range(kernel.length, 2);
	const matrix = (x: Value, channels: number) => g.reshape(x, group === 1 ? [channels, columns] : [group, channels / group, columns]);
	const padded = pads.some((p) => p > 0)
		? g.pad(channelsFirst(g, image), [0, 0, ...pads.slice(0, axes.length), 0, 0, ...pads.slice(axes.length)])
		: channelsFirst(g, image);
	const left = matrix(channelsFirst(g, flow), outputs);
	const products = tapsOf(kernel).map((tap) => {
		const starts = tap.map((t, i) => t * dilations[i]!);
		const ends = starts.map((s, i) => s + strides[i]! * (places[i]! - 1) + 1);
		const whole = axes.every((a, i) => starts[i] === 0 && ends[i] === padded.shape[a] && strides[i] === 1);
		const met = whole ? padded : g.slice(padded, starts, ends, axes, strides.some((s) => s > 1) ? strides : undefined);
		return g.matMul(left, swapLast(g, matrix(met, inputs)));
	});
	const columnsOf = products.map((p) => g.reshape(p, [outputs * (inputs / group), 1]));
	return g.reshape(g.concat(columnsOf, 1), [outputs, inputs / group, ...kernel]);
}

/** Positions of the taps of a kernel, row-major. */
function tapsOf(kernel: readonly number[]): number[][] {
	return kernel.reduce<number[][]>((taps, length) => taps.flatMap((tap) => range(length).map((t) => [...tap, t])), [[]]);
}
