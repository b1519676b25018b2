/** @file Rules of shapes that the operators share: broadcasting and axes counted from either end. */
import type { InferContext } from './op.ts';

/** The shape two shapes broadcast to, or undefined when they do not. */
export function broadcastShapes(a: readonly number[], b: readonly number[]): number[] | undefined {
	const rank = Math.max(a.length, b.length);
	const out: number[] = [];
	for (let i = 0; i < rank; i++) {
		const x = a[a.length - rank + i] ?? 1;
		const y = b[b.length - rank + i] ?? 1;
		if (x !== y && x !== 1 && y !== 1) return undefined;
		out.push(x === 1 ? y : x);
	}
	return out;
}

/** `axis` counted from the front; fails when it is out of range. */
export function normalizeAxis(axis: number, rank: number, fail: InferContext['fail']): number {
	const positive = axis < 0 ? axis + rank : axis;
	if (positive < 0 || positive >= Math.max(rank, 1)) fail(`axis ${axis} is out of range`, `${-rank} to ${rank - 1}`);
	return positive;
}
