/** @file Convolutions over any number of spatial axes. Their gradient rules are in conv-gradient.ts. */
import { sizeOf } from '../../core/tensor.ts';
import type { AttributeSpec, InferContext, OpDef } from '../op.ts';
import { convTransposeVjp, convVjp } from './conv-gradient.ts';
import type { ConvOp } from './kinds.ts';
import { numbersOf, tensorOf } from './shared.ts';
import { checkWindow, reach, tapTable, windowAttributes, windowOf, windowPlaces } from './window.ts';

const convAttributes = { ...windowAttributes, group: { kind: 'int', default: 1 } } as const satisfies Record<string, AttributeSpec>;

/** Checks ranks, types and groups of x [batch, channels, ...spatial], a weight whose `inAxis` counts inputs, and the bias. */
function checkOperands(ctx: InferContext, inAxis: 0 | 1) {
	const [x, w, bias] = [ctx.input(0), ctx.input(1), ctx.inputs[2]];
	const group = ctx.attributes.int('group');
	if (x.shape.length < 3 || w.shape.length !== x.shape.length) {
		ctx.fail(
			'input and weight must have the same rank of at least three',
			'[batch, channels, ...spatial] and two channel axes before the kernel',
		);
	}
	if (w.dtype !== x.dtype || (bias && bias.dtype !== x.dtype)) ctx.fail('element types differ', `${x.dtype} for every input`);
	const channels = x.shape[1]!;
	if (group < 1 || channels % group !== 0 || w.shape[0]! % group !== 0) {
		ctx.fail(`group ${group} does not divide the channels`, `a divisor of ${channels} and ${w.shape[0]}`);
	}
	const taken = inAxis === 0 ? w.shape[0]! : w.shape[1]! * group;
	if (taken !== channels) ctx.fail(`the weight takes ${taken} channels`, `${channels}`);
	const made = inAxis === 0 ? w.shape[1]! * group : w.shape[0]!;
	if (bias && bias.shape.join() !== `${made}`) ctx.fail('the bias does not fit the output channels', `[${made}]`);
	return { x, made, window: checkWindow(ctx, w.shape.slice(2)) };
}

/** x [batch, in, ...spatial], weight [out, in/group, ...kernel], bias [out]: each output channel correlates the channels of its group. */
const conv: OpDef = {
	inputs: [2, 3],
	outputs: [1, 1],
	attributes: convAttributes,
	cost: 'heavy',
	infer(ctx) {
		const { x, made, window } = checkOperands(ctx, 1);
		return [{ dtype: x.dtype, shape: [x.shape[0]!, made, ...windowPlaces(ctx, window, x.shape.slice(2))] }];
	},
	vjp: convVjp,
	evaluate(ctx) {
		const [x, w, bias] = [ctx.input(0), ctx.input(1), ctx.inputs[2]];
		const type = ctx.outputs[0]!;
		const [batch, channels] = x.shape as [number, number];
		const made = type.shape[1]!;
		const image = x.shape.slice(2);
		const kernel = w.shape.slice(2);
		const [pixels, places, taps] = [sizeOf(image), sizeOf(type.shape.slice(2)), sizeOf(kernel)];
		const table = tapTable(windowOf(ctx.attributes, kernel), image, type.shape.slice(2));
		const perGroup = w.shape[1]!;
		const groupOf = (o: number) => Math.floor((o * (channels / perGroup)) / made);
		const [xs, ws] = [numbersOf(x), numbersOf(w)];
		const bs = bias && numbersOf(bias);
		const out = new Float64Array(sizeOf(type.shape));
		for (let n = 0; n < batch; n++) {
			for (let o = 0; o < made; o++) {
				for (let p = 0; p < places; p++) {
					let sum = bs ? bs[o]! : 0;
					for (let c = 0; c < perGroup; c++) {
						const xAt = (n * channels + groupOf(o) * perGroup + c) * pixels;
						const wAt = (o * perGroup + c) * taps;
						for (let t = 0; t < taps; t++) {
							const at = table[p * taps + t]!;
							if (at >= 0) sum += xs[xAt + at]! * ws[wAt + t]!;
						}
					}
					out[(n * made + o) * places + p] = sum;
				}
			}
		}
		return [tensorOf(type, out)];
	},
	macs: ([, w], [y]) => sizeOf(y!.shape) * sizeOf(w!.shape.slice(1)),
};

/**
 * x [batch, in, ...spatial], weight [in, out/group, ...kernel], bias [out]: the transpose of the convolution with this weight, each input
 * entry spreading the kernel over the output.
 */
const convTranspose: OpDef = {
	inputs: [2, 3],
	outputs: [1, 1],
	attributes: { ...convAttributes, output_padding: { kind: 'ints' }, output_shape: { kind: 'ints' } },
	cost: 'heavy',
	infer(ctx) {
		const { attributes } = ctx;
		const { x, made, window } = checkOperands(ctx, 0);
		const spatial = x.shape.slice(2);
		if (attributes.has('output_shape')) ctx.fail('output_shape is not supported', 'the padding written as pads and output_padding');
		const extra = attributes.has('output_padding') ? attributes.ints('output_padding') : spatial.map(() => 0);
		if (extra.length !== spatial.length || extra.some((e, i) => e < 0 || e >= window.strides[i]!)) {
			ctx.fail(`output_padding [${extra}] does not fit`, `${spatial.length} numbers below the strides [${window.strides}]`);
		}
		const sizes = spatial.map((d, i) => {
			const size = window.strides[i]! * (d - 1) + reach(window, i) + extra[i]! - window.pads[i]! - window.pads[spatial.length + i]!;
			return size > 0 ? size : ctx.fail(`pads [${window.pads}] leave nothing of axis ${i + 2}`);
		});
		return [{ dtype: x.dtype, shape: [x.shape[0]!, made, ...sizes] }];
	},
	vjp: convTransposeVjp,
	evaluate(ctx) {
		const [x, w, bias] = [ctx.input(0), ctx.input(1), ctx.inputs[2]];
		const type = ctx.outputs[0]!;
		const [batch, channels] = x.shape as [number, number];
		const made = type.shape[1]!;
		const kernel = w.shape.slice(2);
		const [places, pixels, taps] = [sizeOf(x.shape.slice(2)), sizeOf(type.shape.slice(2)), sizeOf(kernel)];
		const table = tapTable(windowOf(ctx.attributes, kernel), type.shape.slice(2), x.shape.slice(2));
		const perGroup = w.shape[1]!;
		const [xs, ws] = [numbersOf(x), numbersOf(w)];
		const out = new Float64Array(sizeOf(type.shape));
		if (bias) {
			const bs = numbersOf(bias);
			for (let i = 0; i < out.length; i++) out[i] = bs[Math.floor(i / pixels) % made]!;
		}
		for (let n = 0; n < batch; n++) {
			for (let c = 0; c < channels; c++) {
				const first = Math.floor((c * (made / perGroup)) / channels) * perGroup;
				for (let o = 0; o < perGroup; o++) {
					const yAt = (n * made + first + o) * pixels;
					const wAt = (c * perGroup + o) * taps;
					for (let p = 0; p < places; p++) {
						const value = xs[(n * channels + c) * places + p]!;
						for (let t = 0; t < taps; t++) {
							const at = table[p * taps + t]!;
							if (at >= 0) out[yAt + at]! += value * ws[wAt + t]!;
						}
					}
				}
			}
		}
		return [tensorOf(type, out)];
	},
	macs: ([x, w]) => sizeOf(x!.shape) * sizeOf(w!.shape.slice(1)),
};

export const convOps: Record<ConvOp, OpDef> = { Conv: conv, ConvTranspose: convTranspose };
