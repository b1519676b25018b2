/** @file Pieces many operators share: broadcasting, elementwise evaluation, gradients through broadcasting. */
import {
	bytesPerElement,
	type DType,
	describe,
	makeArray,
	readElement,
	type Shape,
	sizeOf,
	stridesOf,
	type Tensor,
	type TypeShape,
	writeElement,
} from '../../core/tensor.ts';
import type { GraphBuilder } from '../builder.ts';
import type { EvalContext, InferContext } from '../op.ts';
import { broadcastShapes } from '../shapes.ts';
import type { Value } from '../types.ts';

/** The numbers of a tensor as float64, for reference arithmetic. */
export function numbersOf(t: Tensor): Float64Array {
	if (t.dtype === 'float64') return t.data as Float64Array;
	const out = new Float64Array(t.data.length);
	for (let i = 0; i < out.length; i++) out[i] = readElement(t.dtype, t.data, i);
	return out;
}

/** A tensor of type `type` holding `values`, rounded once. */
export function tensorOf(type: TypeShape, values: ArrayLike<number>): Tensor {
	const data = makeArray(type.dtype, sizeOf(type.shape));
	for (let i = 0; i < data.length; i++) writeElement(type.dtype, data, i, values[i] ?? 0);
	return { dtype: type.dtype, shape: type.shape, data };
}

/** True for the element types gradients flow through. */
export function isFloat(dtype: DType): boolean {
	return dtype === 'float32' || dtype === 'float64' || dtype === 'float16' || dtype === 'bfloat16';
}

/** Inference of operators whose output has the input's type and shape. */
export function sameAsInput(ctx: InferContext): readonly TypeShape[] {
	const { dtype, shape } = ctx.input(0);
	return [{ dtype, shape }];
}

/** Inference of broadcasting operators; all inputs share one element type. */
export function broadcastInfer(ctx: InferContext, from = 0): TypeShape {
	const first = ctx.input(from);
	let shape: Shape = first.shape;
	for (let i = from + 1; i < ctx.inputs.length; i++) {
		const next = ctx.input(i);
		if (next.dtype !== first.dtype) ctx.fail(`element types differ`, `${first.dtype} for every input`);
		shape = broadcastShapes(shape, next.shape) ?? ctx.fail(`${describe(next)} does not broadcast with [${shape.join(',')}]`);
	}
	return { dtype: first.dtype, shape };
}

/** Element strides of a tensor of `shape` seen as broadcast to `target`: 0 along broadcast axes. */
export function broadcastStrides(shape: Shape, target: Shape): number[] {
	const strides = stridesOf(shape);
	return target.map((_, i) => {
		const j = i - (target.length - shape.length);
		return j < 0 || shape[j] === 1 ? 0 : strides[j]!;
	});
}

/** Calls `body` with the flat index of every element of `target` and the offsets into each broadcast operand. */
export function forEachBroadcast(target: Shape, shapes: readonly Shape[], body: (index: number, offsets: readonly number[]) => void): void {
	const strides = shapes.map((s) => broadcastStrides(s, target));
	const counter = new Array<number>(target.length).fill(0);
	const offsets = new Array<number>(shapes.length).fill(0);
	const size = sizeOf(target);
	for (let index = 0; index < size; index++) {
		body(index, offsets);
		for (let axis = target.length - 1; axis >= 0; axis--) {
			counter[axis]!++;
			for (let k = 0; k < offsets.length; k++) offsets[k]! += strides[k]![axis]!;
			if (counter[axis]! < target[axis]!) break;
			for (let k = 0; k < offsets.length; k++) offsets[k]! -= strides[k]![axis]! * target[axis]!;
			counter[axis] = 0;
		}
	}
}

/** Reference evaluation of a broadcasting operator from a function of numbers. */
export function evaluateBroadcast(ctx: EvalContext, f: (...xs: number[]) => number): readonly Tensor[] {
	const type = ctx.outputs[0]!;
	const inputs = ctx.inputs.map((_, i) => ctx.input(i));
	const numbers = inputs.map(numbersOf);
	const out = new Float64Array(sizeOf(type.shape));
	forEachBroadcast(
		type.shape,
		inputs.map((t) => t.shape),
		(index, offsets) => {
			out[index] = f(...offsets.map((o, k) => numbers[k]![o]!));
		},
	);
	return [tensorOf(type, out)];
}

/** Sums `grad` over the axes along which `target` was broadcast to it, giving target's shape. */
export function reduceTo(g: GraphBuilder, grad: Value, target: Shape): Value {
	const lead = grad.shape.length - target.length;
	const axes = grad.shape.flatMap((d, i) => (i < lead || (target[i - lead] === 1 && d !== 1) ? [i] : []));
	const summed = axes.length === 0 ? grad : g.reduceSum(grad, axes, true);
	return summed.shape.length === target.length ? summed : g.reshape(summed, target);
}

/** Bytes of one element and count, for cost models. */
export function bytesOf(t: TypeShape): number {
	return sizeOf(t.shape) * bytesPerElement(t.dtype);
}
