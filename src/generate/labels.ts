/** @file Class labels as people give them. */
import { DiffusionPipeError, nearestName } from '../core/errors.ts';

/** Labels as numbers, checked against the model's classes; without any given all of them, up to 10. */
export function labelsOf(
	wanted: readonly (number | string)[] | undefined,
	classes: readonly string[] | undefined,
	count: number | undefined,
): number[] {
	const limit = count ?? 1;
	if (!wanted || wanted.length === 0) return Array.from({ length: Math.min(limit, 10) }, (_, i) => i);
	return wanted.map((label) => {
		const named = typeof label === 'string' ? (classes?.indexOf(label) ?? -1) : -1;
		const index = named === -1 ? Number(label) : named;
		if (Number.isInteger(index) && index >= 0 && index < limit) return index;
		const near = typeof label === 'string' ? nearestName(label, classes ?? []) : undefined;
		throw new DiffusionPipeError('usage', 'no such class', {
			place: '--labels',
			expected: classes ? `a number below ${limit} or one of ${classes.slice(0, 20).join(', ')}` : `a number below ${limit}`,
			found: String(label),
			...(near === undefined ? {} : { hint: `did you mean ${near}?` }),
		});
	});
}
