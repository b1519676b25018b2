/**
 * @file Convolutions over blocks of channels (domain com.microsoft.nchwc, which ONNX Runtime's own optimiser writes where weights are constant). Values keep
 * their shapes; in memory a run of `block` channels is innermost: [batch, channels / block, ...spatial, block]. Weights: [out / block, in / block, ...kernel,
 * block of in, block of out]. The block is the machine's, so graphs with these operators are for the machine they were lowered on.
 */
import { sizeOf, type Tensor, type TypeShape } from '../../core/tensor.ts';
import type { InferContext, OpDef } from '../op.ts';
import { convOps } from './conv.ts';
import type { BlockedOp } from './kinds.ts';
import { transposeTensor } from './move.ts';
import { sameAsInput } from './shared.ts';

const blocked = { domain: 'com.microsoft.nchwc', vjp: 'lowered' } as const;
const block = { kind: 'int', unwritten: true } as const;

/** Fails unless the channels of `x` are whole blocks. */
function checkBlocks(ctx: InferContext, { shape }: TypeShape, axis: number): void {
	const size = ctx.attributes.int('block');
	if (shape.length < 3 || size < 1 || shape[axis]! % size !== 0) ctx.fail('channels must be whole blocks', `a multiple of ${size}`);
}

const seenAs = (x: Tensor, shape: readonly number[], perm: readonly number[], result: readonly number[]): Tensor => ({
	...transposeTensor({ ...x, shape }, perm),
	shape: result,
});

/** To blocks, and back. */
const toBlocks = (x: Tensor, b: number): Tensor => {
	const [batch, channels, ...spatial] = x.shape as [number, number, ...number[]];
	return seenAs(x, [batch, channels / b, b, sizeOf(spatial)], [0, 1, 3, 2], x.shape);
};
const fromBlocks = (x: Tensor, b: number): Tensor => {
	const [batch, channels, ...spatial] = x.shape as [number, number, ...number[]];
	return seenAs(x, [batch, channels / b, sizeOf(spatial), b], [0, 1, 3, 2], x.shape);
};
const plainWeight = (w: Tensor, b: number): Tensor => {
	const [out, inputs, ...kernel] = w.shape as [number, number, ...number[]];
	return seenAs(w, [out / b, inputs / b, sizeOf(kernel), b, b], [0, 4, 1, 3, 2], w.shape);
};

const reorder = (onnxName: string, move: (x: Tensor, block: number) => Tensor, attributes: OpDef['attributes']): OpDef => ({
	...blocked,
	onnxName,
	inputs: [1, 1],
	outputs: [1, 1],
	attributes: { ...attributes, block },
	cost: 'cheap',
	infer(ctx) {
		checkBlocks(ctx, ctx.input(0), 1);
		return sameAsInput(ctx);
	},
	evaluate: (ctx) => [move(ctx.input(0), ctx.attributes.int('block'))],
});

const { Conv } = convOps;

const conv: OpDef = {
	...Conv,
	...blocked,
	onnxName: 'Conv',
	attributes: { ...Conv.attributes, block },
	infer(ctx) {
		checkBlocks(ctx, ctx.input(0), 1);
		for (const axis of [0, 1]) checkBlocks(ctx, ctx.input(1), axis);
		return Conv.infer(ctx);
	},
	evaluate(ctx) {
		const b = ctx.attributes.int('block');
		const inputs = [fromBlocks(ctx.input(0), b), plainWeight(ctx.input(1), b), ctx.inputs[2]];
		return Conv.evaluate({ ...ctx, inputs, input: (i) => inputs[i]! }).map((y) => toBlocks(y, b));
	},
};

export const blockedOps: Record<BlockedOp, OpDef> = {
	NchwcReorderInput: reorder('ReorderInput', toBlocks, {}),
	NchwcReorderOutput: reorder('ReorderOutput', fromBlocks, { channels: { kind: 'int' } }),
	NchwcConv: conv,
};
