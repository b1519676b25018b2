/** @file Pooling over windows. Resizing is in resize.ts. */
import { DiffusionPipeError } from '../../core/errors.ts';
import { describe, type Shape, sizeOf, type TypeShape, tensor } from '../../core/tensor.ts';
import type { AttributeSpec, EvalContext, InferContext, OpDef, VjpContext } from '../op.ts';
import type { Value } from '../types.ts';
import type { PoolOp } from './kinds.ts';
import { range } from './move.ts';
import { resize, upsample } from './resize.ts';
import { numbersOf, tensorOf } from './shared.ts';
import { checkWindow, leftover, tapTable, type Window, windowAttributes, windowOf, windowPlaces } from './window.ts';

const poolAttributes = { ...windowAttributes, ceil_mode: { kind: 'int', default: 0 } } as const satisfies Record<string, AttributeSpec>;

function poolInfer(ctx: InferContext): readonly TypeShape[] {
	const { dtype, shape } = ctx.input(0);
	const { attributes } = ctx;
	if (shape.length < 3) ctx.fail('input must have at least three axes', '[batch, channels, ...spatial]');
	if (attributes.int('ceil_mode') !== 0) ctx.fail('ceil_mode 1 is not supported', 'ceil_mode 0');
	const kernel = attributes.ints('kernel_shape');
	const spatial = shape.slice(2);
	if (kernel.length !== spatial.length) ctx.fail(`kernel_shape [${kernel}] does not fit`, `${spatial.length} numbers`);
	const window = checkWindow(ctx, kernel);
	if (window.pads.some((p, i) => p >= kernel[i % kernel.length]!))
		ctx.fail(`pads [${window.pads}] hold whole windows`, `below [${kernel}]`);
	return [{ dtype, shape: [...shape.slice(0, 2), ...windowPlaces(ctx, window, spatial)] }];
}

/** Reference pooling: `f` of the covered entries of each window, and of how many taps the kernel has. */
function poolEvaluate(ctx: EvalContext, f: (covered: readonly number[], taps: number) => number) {
	const x = ctx.input(0);
	const type = ctx.outputs[0]!;
	const window = windowOf(ctx.attributes, ctx.attributes.ints('kernel_shape'));
	const image = x.shape.slice(2);
	const places = type.shape.slice(2);
	const table = tapTable(window, image, places);
	const [pixels, count, taps] = [sizeOf(image), sizeOf(places), sizeOf(window.kernel)];
	const xs = numbersOf(x);
	const out = new Float64Array(sizeOf(type.shape));
	for (let i = 0; i < out.length; i++) {
		const at = (i % count) * taps;
		const start = Math.floor(i / count) * pixels;
		const covered = Array.from(table.subarray(at, at + taps)).filter((t) => t >= 0);
		out[i] = f(
			covered.map((t) => xs[start + t]!),
			taps,
		);
	}
	return [tensorOf(type, out)];
}

/** True when the windows tile the image without overlap, gap or padding. */
const tiles = ({ kernel, strides, dilations, pads }: Window, image: Shape): boolean =>
	kernel.every((k, i) => strides[i] === k && dilations[i] === 1 && image[i]! % k === 0) && pads.every((p) => p === 0);

/** One over the number of entries each window averages: one number, or one per place where the padding does not count. */
function averageWeights(window: Window, countPadding: boolean, image: Shape, places: Shape): { shape: Shape; values: number[] } {
	const taps = sizeOf(window.kernel);
	if (countPadding || window.pads.every((p) => p === 0)) return { shape: [], values: [1 / taps] };
	const table = tapTable(window, image, places);
	const counts = range(sizeOf(places)).map((p) => table.subarray(p * taps, (p + 1) * taps).filter((t) => t >= 0).length);
	return { shape: places, values: counts.map((n) => 1 / n) };
}

const averagePool: OpDef = {
	inputs: [1, 1],
	outputs: [1, 1],
	attributes: { ...poolAttributes, count_include_pad: { kind: 'int', default: 0 } },
	cost: 'cheap',
	infer: poolInfer,
	vjp(ctx) {
		const { g, attributes } = ctx;
		const [x, dy] = [ctx.input(0), ctx.grad()];
		const window = windowOf(attributes, attributes.ints('kernel_shape'));
		const [image, places] = [x.shape.slice(2), dy.shape.slice(2)];
		const { shape, values } = averageWeights(window, attributes.int('count_include_pad') === 1, image, places);
		const shared = g.mul(dy, g.constant(tensor(dy.dtype, shape, values)));
		if (tiles(window, image)) return [upsample(g, shared, [1, 1, ...window.kernel])];
		// Every window gives its share to each entry it covers: a transposed convolution of every channel with a kernel of ones.
		const channels = x.shape[1]!;
		const ones = g.expand(g.scalar(1, x.dtype), [channels, 1, ...window.kernel]);
		const { strides, dilations, pads } = window;
		const outputPadding = leftover(window, image, places);
		return [g.convTranspose(shared, ones, undefined, { strides, dilations, pads, group: channels, outputPadding })];
	},
	evaluate(ctx) {
		const all = ctx.attributes.int('count_include_pad') === 1;
		return poolEvaluate(ctx, (covered, taps) => covered.reduce((a, b) => a + b, 0) / (all ? taps : covered.length));
	},
};

const globalAveragePool: OpDef = {
	inputs: [1, 1],
	outputs: [1, 1],
	attributes: {},
	cost: 'cheap',
	infer(ctx) {
		const { dtype, shape } = ctx.input(0);
		if (shape.length < 3) ctx.fail('input must have at least three axes', '[batch, channels, ...spatial]');
		return [{ dtype, shape: shape.map((d, i) => (i < 2 ? d : 1)) }];
	},
	vjp(ctx) {
		const { shape } = ctx.input(0);
		return [ctx.g.expand(ctx.g.mul(ctx.grad(), 1 / sizeOf(shape.slice(2))), shape)];
	},
	evaluate(ctx) {
		const xs = numbersOf(ctx.input(0));
		const type = ctx.outputs[0]!;
		const pixels = sizeOf(ctx.input(0).shape.slice(2));
		const means = range(sizeOf(type.shape)).map((i) => xs.subarray(i * pixels, (i + 1) * pixels).reduce((a, b) => a + b, 0) / pixels);
		return [tensorOf(type, means)];
	},
};

const maxPool: OpDef = {
	inputs: [1, 1],
	outputs: [1, 1],
	attributes: { ...poolAttributes, storage_order: { kind: 'int', default: 0 } },
	cost: 'cheap',
	infer: poolInfer,
	vjp: (ctx) => [maxPoolGradient(ctx)],
	evaluate: (ctx) => poolEvaluate(ctx, (covered) => Math.max(...covered)),
};

/** Each window's gradient goes to its largest entry, shared evenly at ties. Only for windows that tile the image. */
function maxPoolGradient(ctx: VjpContext): Value {
	const { g, attributes } = ctx;
	const x = ctx.input(0);
	const window = windowOf(attributes, attributes.ints('kernel_shape'));
	const image = x.shape.slice(2);
	if (!tiles(window, image)) {
		throw new DiffusionPipeError('graph', 'no gradient for windows that overlap, leave gaps or reach into padding', {
			place: `gradient of MaxPool(${describe(x)})`,
			expected: 'strides equal to kernel_shape, no pads or dilations, and an image the kernel divides',
			found: `kernel_shape [${window.kernel}], strides [${window.strides}], pads [${window.pads}], dilations [${window.dilations}]`,
		});
	}
	// [batch, channels, places, kernel, ...]: windows as axes of their own, against which one entry per window broadcasts.
	const lead = x.shape.slice(0, 2);
	const inner = range(image.length).map((i) => 3 + 2 * i);
	const split = (v: Value, kernel: Shape) => g.reshape(v, [...lead, ...image.flatMap((d, i) => [d / window.kernel[i]!, kernel[i]!])]);
	const single = window.kernel.map(() => 1);
	const chosen = g.cast(g.equal(split(x, window.kernel), split(ctx.outputs[0]!, single)), x.dtype);
	const share = g.div(split(ctx.grad(), single), g.reduceSum(chosen, inner));
	return g.reshape(g.mul(chosen, share), x.shape);
}

export const poolOps: Record<PoolOp, OpDef> = {
	AveragePool: averagePool,
	GlobalAveragePool: globalAveragePool,
	MaxPool: maxPool,
	Resize: resize,
};
