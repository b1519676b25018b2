/** @file Comparison of arrays of numbers within tolerances, naming the worst element. */
import type { Tensor } from '../../src/core/tensor.ts';
import { toNumbers } from '../../src/core/tensor.ts';

export interface Tolerance {
	/** Allowed difference relative to the expected element. Default 1e-6. */
	readonly rtol?: number;
	/** Allowed difference beside the relative one. Default 1e-8. */
	readonly atol?: number;
	/** Put in front of the message. */
	readonly what?: string;
}

/** Throws unless |actual - expected| <= atol + rtol * |expected| everywhere; NaN equals NaN and infinities equal themselves. */
export function expectClose(actual: ArrayLike<number> | Tensor, expected: ArrayLike<number> | Tensor, options: Tolerance = {}): void {
	const { rtol = 1e-6, atol = 1e-8, what = 'values' } = options;
	const a = numbers(actual);
	const e = numbers(expected);
	if (a.length !== e.length) throw new Error(`${what}: ${a.length} elements, expected ${e.length}`);
	let worst = -1;
	let excess = 0;
	for (let i = 0; i < a.length; i++) {
		const [x, y] = [a[i]!, e[i]!];
		if (Object.is(x, y) || x === y) continue;
		const over = Math.abs(x - y) / (atol + rtol * Math.abs(y));
		const bad = Number.isFinite(over) ? over : Number.POSITIVE_INFINITY;
		if (bad > 1 && bad > excess) {
			worst = i;
			excess = bad;
		}
	}
	if (worst >= 0) {
		throw new Error(
			`${what}: element ${worst} of ${a.length} is ${a[worst]}, expected ${e[worst]} (${excess.toPrecision(3)} times the tolerance; rtol ${rtol}, atol ${atol})`,
		);
	}
}

function numbers(x: ArrayLike<number> | Tensor): ArrayLike<number> {
	return 'dtype' in x ? toNumbers(x) : x;
}
