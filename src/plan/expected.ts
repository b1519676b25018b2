/** @file Times of a plan by kind of iteration: with and without the extra sweep of self-conditioning. */
import type { Plan } from './types.ts';

/** Iterations without the sweep, ms: all of them where there is no self-conditioning; nothing tells where every iteration has the sweep. */
export function plainIterationMs({ iterationMs, selfConditioning: s }: Pick<Plan, 'iterationMs' | 'selfConditioning'>): number {
	if (!s) return iterationMs;
	return s.probability < 1 ? (iterationMs - s.probability * s.iterationMs) / (1 - s.probability) : iterationMs;
}
