/** @file Collectives between device threads of one process: each adds up its share, then everybody copies the others' shares. */
import { sizeOf, type TypeShape } from '../../core/tensor.ts';
import { createBuilder } from '../../graph/builder.ts';
import { writeOnnx } from '../../graph/onnx/index.ts';
import {
	addressOf,
	allocateTensor,
	createSession,
	dataOf,
	type Environment,
	releaseValue,
	type Session,
	tensorOver,
	viewNative,
} from './native.ts';
import type { Pointer } from './ort.ts';
import { type Control, type Meeting, meet } from './shared.ts';

const chunk = 32768;

/** Adds chunks of float32 memory in place. */
export interface Adder {
	/** to[0..length) += from[0..length). */
	add(to: Pointer, from: Pointer, length: number): void;
	release(): void;
}

/** An adder that runs ONNX Runtime's Add over cache-sized chunks, and the rest element by element. */
export function createAdder(environment: Environment): Adder {
	const g = createBuilder('add');
	const [a, b] = [g.input('a', 'float32', [chunk]), g.input('b', 'float32', [chunk])];
	const graph = g.finish([g.add(a, b)]);
	const session: Session = createSession(environment, 'allReduce', writeOnnx(graph), { inputs: ['a', 'b'], outputs: [graph.outputs[0]!] });
	const inputs = new BigUint64Array(new SharedArrayBuffer(16));
	const outputs = new BigUint64Array(new SharedArrayBuffer(8));
	const type = { dtype: 'float32', shape: [chunk] } as const;
	return {
		add(to, from, length) {
			let done = 0;
			for (; done + chunk <= length; done += chunk) {
				const at = BigInt(done * 4);
				inputs[0] = tensorOver(environment, to + at, type);
				inputs[1] = tensorOver(environment, from + at, type);
				outputs[0] = inputs[0]!;
				session.run(inputs, outputs);
				releaseValue(inputs[0]!);
				releaseValue(inputs[1]!);
			}
			if (done === length) return;
			const rest = length - done;
			const x = viewNative(to + BigInt(done * 4), 'float32', rest) as Float32Array;
			const y = viewNative(from + BigInt(done * 4), 'float32', rest) as Float32Array;
			for (let i = 0; i < rest; i++) x[i]! += y[i]!;
		},
		release: () => session.release(),
	};
}

/** Sums `value` (float32) over the meeting's members in member order, in place on each: the same bits everywhere. */
export function allReduce(control: Control, meeting: Meeting, member: number, value: Pointer, length: number, adder: Adder): void {
	const { members, addresses } = meeting;
	addresses[member] = dataOf(value);
	meet(control, meeting);
	const bound = (k: number) => Math.floor((length * k) / members);
	const [from, to] = [bound(member), bound(member + 1)];
	const own = addresses[member]!;
	const at = BigInt(from * 4);
	if (to > from) {
		// Member order, not own-first, so that the rounding does not depend on who adds.
		const first = addresses[0]!;
		const scratch = member === 0 ? own + at : scratchFor(to - from);
		if (member !== 0) copy(scratch, first + at, to - from);
		for (let k = 1; k < members; k++) adder.add(scratch, addresses[k]! + at, to - from);
		if (member !== 0) copy(own + at, scratch, to - from);
	}
	meet(control, meeting);
	for (let k = 0; k < members; k++) {
		if (k === member) continue;
		const share = BigInt(bound(k) * 4);
		if (bound(k + 1) > bound(k)) copy(own + share, addresses[k]! + share, bound(k + 1) - bound(k));
	}
	meet(control, meeting);
}

let scratchMemory: Float32Array | undefined;

function scratchFor(length: number): Pointer {
	if (!scratchMemory || scratchMemory.length < length) scratchMemory = new Float32Array(new SharedArrayBuffer(length * 4));
	return addressOf(scratchMemory);
}

function copy(to: Pointer, from: Pointer, length: number): void {
	(viewNative(to, 'float32', length) as Float32Array).set(viewNative(from, 'float32', length) as Float32Array);
}

/** Joins the members' `value`s along `axis`, in member order, into a new value for each; they may differ in size along it. */
export function allGather(
	control: Control,
	meeting: Meeting,
	member: number,
	value: Pointer,
	{ dtype, shape }: TypeShape,
	axis: number,
): { readonly value: Pointer; readonly type: TypeShape } {
	const { members, addresses, lengths } = meeting;
	addresses[member] = dataOf(value);
	lengths[member] = shape[axis]!;
	meet(control, meeting);
	const rows = sizeOf(shape.slice(0, axis));
	const inner = sizeOf(shape.slice(axis + 1));
	const total = lengths.reduce((sum, n) => sum + n, 0);
	const type = { dtype, shape: shape.map((d, k) => (k === axis ? total : d)) };
	const joined = allocateTensor(type);
	if (sizeOf(type.shape) > 0) {
		const to = viewNative(dataOf(joined), dtype, sizeOf(type.shape)) as Float32Array;
		let at = 0;
		for (let k = 0; k < members; k++) {
			const width = lengths[k]! * inner;
			if (width === 0) continue;
			const from = viewNative(addresses[k]!, dtype, rows * width) as Float32Array;
			for (let row = 0; row < rows; row++) to.set(from.subarray(row * width, (row + 1) * width), row * total * inner + at);
			at += width;
		}
	}
	try {
		meet(control, meeting);
	} catch (error) {
		releaseValue(joined);
		throw error;
	}
	return { value: joined, type };
}
