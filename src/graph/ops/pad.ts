/** @file Padding: constant values, mirrored or repeated edges. */
import { type Shape, sizeOf, toNumbers } from '../../core/tensor.ts';
import type { GraphBuilder } from '../builder.ts';
import type { OpDef } from '../op.ts';
import { normalizeAxis } from '../shapes.ts';
import type { Value } from '../types.ts';
import { padAxis } from './cut.ts';
import type { ShapeOp } from './kinds.ts';
import { outside, range, takeIndices } from './move.ts';

type Mode = 'constant' | 'reflect' | 'edge';

/** Entries to add before and after every axis of `shape`, from Pad's inputs `pads` and `axes`. */
function padsPerAxis(shape: Shape, pads: readonly number[], axes: readonly number[] | undefined): [before: number, after: number][] {
	const out = shape.map((): [number, number] => [0, 0]);
	const named = axes ?? range(shape.length);
	named.forEach((a, i) => {
		out[a < 0 ? a + shape.length : a] = [pads[i]!, pads[named.length + i]!];
	});
	return out;
}

/** The entry of an axis of `length` that stands at position `at`, which may lie outside. */
function source(mode: Mode, at: number, length: number): number {
	if (at >= 0 && at < length) return at;
	if (mode === 'constant') return outside;
	if (mode === 'edge') return at < 0 ? 0 : length - 1;
	return at < 0 ? -at : 2 * (length - 1) - at;
}

/** Adds what flowed into the padding of one axis to the entries it was copied from. */
function foldBack(g: GraphBuilder, grad: Value, mode: Mode, axis: number, [before, after]: [number, number], length: number): Value {
	const piece = (from: number, to: number) => g.slice(grad, [from], [to], [axis]);
	const backward = (from: number, to: number) => g.slice(grad, [to - 1], [from - 1 - grad.shape[axis]!], [axis], [-1]);
	const end = before + length;
	let sum = piece(before, end);
	if (mode === 'reflect') {
		if (before > 0) sum = g.add(sum, padAxis(g, backward(0, before), axis, 1, length - 1 - before));
		if (after > 0) sum = g.add(sum, padAxis(g, backward(end, end + after), axis, length - 1 - after, 1));
		return sum;
	}
	if (before > 0) sum = g.add(sum, padAxis(g, g.reduceSum(piece(0, before), [axis]), axis, 0, length - 1));
	if (after > 0) sum = g.add(sum, padAxis(g, g.reduceSum(piece(end, end + after), [axis]), axis, length - 1, 0));
	return sum;
}

const pad: OpDef = {
	inputs: [2, 4],
	outputs: [1, 1],
	attributes: { mode: { kind: 'string', default: 'constant' } },
	cost: 'cheap',
	infer(ctx) {
		const { dtype, shape } = ctx.input(0);
		const mode = ctx.attributes.string('mode');
		if (mode !== 'constant' && mode !== 'reflect' && mode !== 'edge')
			ctx.fail(`mode ${mode} is not supported`, 'constant, reflect or edge');
		const axes = ctx.constant(3);
		for (const a of axes ?? []) normalizeAxis(a, shape.length, ctx.fail);
		const pads = ctx.constant(1)!;
		const count = 2 * (axes?.length ?? shape.length);
		if (pads.length !== count) ctx.fail(`${pads.length} pads given`, `${count}: all begins, then all ends`);
		const value = ctx.inputs[2];
		if (value && (value.dtype !== dtype || sizeOf(value.shape) !== 1)) ctx.fail('the padding value (input 2) must be one element', dtype);
		return [
			{
				dtype,
				shape: padsPerAxis(shape, pads, axes).map(([before, after], i) => {
					const length = shape[i]!;
					const lowest = Math.min(before, after);
					const most = mode === 'reflect' ? length - 1 : Number.POSITIVE_INFINITY;
					if (mode !== 'constant' && lowest < 0) ctx.fail(`pads [${pads}] cut entries off`, `pads of at least 0 with mode ${mode}`);
					if (Math.max(before, after) > most) ctx.fail(`pads [${pads}] reach beyond axis ${i}`, `at most ${most} with mode reflect`);
					if (mode === 'edge' && length === 0 && before + after > 0) ctx.fail(`axis ${i} is empty: it has no edge`);
					if (length + before + after < 0 || length + lowest < 0) ctx.fail(`pads [${pads}] cut off more than axis ${i} has`, `${length}`);
					return length + before + after;
				}),
			},
		];
	},
	vjp(ctx) {
		const { g } = ctx;
		const { shape } = ctx.input(0);
		const mode = ctx.attributes.string('mode') as Mode;
		const amounts = padsPerAxis(shape, ctx.constant(1)!, ctx.constant(3));
		const back = (): Value => {
			const padded = amounts.flatMap(([before, after], axis) => (before === 0 && after === 0 ? [] : [axis]));
			if (padded.length === 0) return ctx.grad();
			if (mode === 'constant') {
				const begins = amounts.map(([before]) => before);
				const ends = amounts.map(([, after]) => after);
				// Pads that cut entries off add them back as zeros: then a Pad with all signs turned is the gradient.
				if (Math.min(...begins, ...ends) < 0)
					return g.pad(
						ctx.grad(),
						[...begins, ...ends].map((n) => -n),
					);
				return g.slice(
					ctx.grad(),
					padded.map((axis) => begins[axis]!),
					padded.map((axis) => begins[axis]! + shape[axis]!),
					padded,
				);
			}
			return padded.reduce((grad, axis) => foldBack(g, grad, mode, axis, amounts[axis]!, shape[axis]!), ctx.grad());
		};
		const dx = ctx.needs[0] || ctx.needs[2] ? back() : undefined;
		if (!ctx.needs[2]) return [dx];
		const all = (v: Value) => g.reduceSum(v, range(v.shape.length), false);
		return [dx, undefined, g.reshape(g.sub(all(ctx.grad()), all(dx!)), ctx.input(2).shape)];
	},
	evaluate(ctx) {
		const x = ctx.input(0);
		const numbers = (i: number) => {
			const t = ctx.inputs[i];
			return t && toNumbers(t);
		};
		const mode = ctx.attributes.string('mode') as Mode;
		const indices = padsPerAxis(x.shape, numbers(1)!, numbers(3)).map(([before, after], i) => {
			const length = x.shape[i]!;
			return range(length + before + after, -before).map((at) => source(mode, at, length));
		});
		return [takeIndices(x, indices, numbers(2)?.[0] ?? 0)];
	},
};

export const padOps: Record<Extract<ShapeOp, 'Pad'>, OpDef> = { Pad: pad };
