/** @file Times of a plan by kind of iteration: with and without the extra sweep of self-conditioning. */
import { formatMs } from '../core/units.ts';
import type { PlanAnswer } from './search/types.ts';
import type { Plan } from './types.ts';

/** Iterations without the sweep, ms: all of them where there is no self-conditioning; nothing tells where every iteration has the sweep. */
export function plainIterationMs({ iterationMs, selfConditioning: s }: Pick<Plan, 'iterationMs' | 'selfConditioning'>): number {
	if (!s) return iterationMs;
	return s.probability < 1 ? (iterationMs - s.probability * s.iterationMs) / (1 - s.probability) : iterationMs;
}

/** Names a kind of iteration; nothing where there is one kind. */
export function kindName(swept: boolean): string {
	return swept ? 'with self-conditioning' : 'without self-conditioning';
}

/** What a plan predicts of each kind of iteration: without the sweep, then with it where some have it. */
export function kindsPredicted({
	plan,
	timeline,
	fill,
	sweep,
}: PlanAnswer): readonly (Omit<PlanAnswer, 'sweep'> & { readonly swept: boolean })[] {
	return [{ plan, timeline, fill, swept: false }, ...(sweep ? [{ plan, ...sweep, swept: true }] : [])];
}

/** `40 ms per step`, and what that is made of where there are two kinds. */
export function stepText(plan: Pick<Plan, 'iterationMs' | 'selfConditioning'>): string {
	const swept = plan.selfConditioning;
	const kinds = swept
		? ` (${formatMs(plainIterationMs(plan))} ${kindName(false)}, ${formatMs(swept.iterationMs)} ${kindName(true)} at probability ${swept.probability})`
		: '';
	return `${formatMs(plan.iterationMs)} per step${kinds}`;
}
