/** @file Fits an accelerator's efficiencies to measured times. */
import type { Accelerator, Efficiency } from './accelerators.ts';
import type { Precision } from './precision.ts';
import { workMs } from './roofline.ts';
import type { PassWork } from './work.ts';

/** A measurement: passes run one after the other, each some times on some samples. */
export interface MeasuredPoint {
	readonly passes: readonly { readonly work: PassWork; readonly samples: number; readonly times?: number }[];
	readonly ms: number;
}

export interface FitOptions {
	/** Default `mixed`. */
	readonly precision?: Precision;
	/** What is to be found; the others stay as they are. Default all. */
	readonly keys?: readonly (keyof Efficiency)[];
	/**
	 * How much staying near the accelerator's own efficiencies counts against the points: a factor of e costs as much as `prior` points that are off by
	 * one. Measurements of whole models alone do not tell convolutions from products. Default 0.01.
	 */
	readonly prior?: number;
}

export interface Fit {
	readonly efficiency: Efficiency;
	/** Root mean square of log(predicted / measured): 0.1 is about 10 %. */
	readonly error: number;
}

/** ms that `point` should take. */
export function predictMs({ passes }: MeasuredPoint, accelerator: Accelerator, precision: Precision = 'mixed'): number {
	return passes.reduce((sum, { work, samples, times = 1 }) => sum + times * workMs(work, samples, accelerator, precision), 0);
}

/**
 * Efficiencies with the least squares of log(predicted / measured), so that short and long times count alike; Levenberg and Marquardt's method on their
 * logarithms. Shares stay at 1 at most.
 */
export function fitEfficiency(points: readonly MeasuredPoint[], accelerator: Accelerator, options: FitOptions = {}): Fit {
	const { precision = 'mixed', prior = 0.01, keys = ['conv', 'matmul', 'attention', 'memory', 'kernelMs'] } = options;
	const start = keys.map((key) => Math.log(accelerator.efficiency[key]));
	const efficiencyOf = (x: readonly number[]): Efficiency => ({
		...accelerator.efficiency,
		...Object.fromEntries(keys.map((key, k) => [key, Math.exp(x[k]!)])),
	});
	/** Residuals of the points, then of the prior. */
	const residuals = (x: readonly number[]) => {
		const tuned = { ...accelerator, efficiency: efficiencyOf(x) };
		return [
			...points.map((p) => Math.log(predictMs(p, tuned, precision) / p.ms)),
			...x.map((value, k) => Math.sqrt(prior) * (value - start[k]!)),
		];
	};
	const squares = (r: readonly number[]) => r.reduce((sum, v) => sum + v * v, 0);
	const bounded = (x: readonly number[]) => x.map((value, k) => (keys[k] === 'kernelMs' ? value : Math.min(value, 0)));
	let x = bounded(start);
	let r = residuals(x);
	let damping = 1e-2;
	for (let step = 0; step < 100 && damping < 1e8; step++) {
		const slopes = x.map((_, k) => {
			const nearby = residuals(x.map((value, j) => (j === k ? value - 1e-4 : value)));
			return nearby.map((value, i) => (r[i]! - value) / 1e-4);
		});
		const dot = (a: readonly number[], b: readonly number[]) => a.reduce((sum, v, i) => sum + v * b[i]!, 0);
		const normal = slopes.map((a, k) => slopes.map((b, j) => dot(a, b) * (j === k ? 1 + damping : 1)));
		const change = solve(
			normal,
			slopes.map((a) => -dot(a, r)),
		);
		const next = bounded(x.map((value, k) => value + change[k]!));
		const there = residuals(next);
		if (squares(there) < squares(r)) {
			const done = squares(r) - squares(there) < 1e-12;
			[x, r, damping] = [next, there, damping / 5];
			if (done) break;
		} else damping *= 4;
	}
	const error = Math.sqrt(squares(r.slice(0, points.length)) / points.length);
	return { efficiency: efficiencyOf(x), error };
}

/** x of a x = b for a positive definite `a`, by elimination. */
function solve(a: readonly (readonly number[])[], b: readonly number[]): number[] {
	const rows = a.map((row, i) => [...row, b[i]!]);
	const n = rows.length;
	for (let k = 0; k < n; k++) {
		for (let i = k + 1; i < n; i++) {
			const factor = rows[i]![k]! / rows[k]![k]!;
			for (let j = k; j <= n; j++) rows[i]![j]! -= factor * rows[k]![j]!;
		}
	}
	const x = new Array<number>(n).fill(0);
	for (let i = n - 1; i >= 0; i--) {
		const known = x.reduce((sum, value, j) => sum + (j > i ? rows[i]![j]! * value : 0), 0);
		x[i] = (rows[i]![n]! - known) / rows[i]![i]!;
	}
	return x;
}
